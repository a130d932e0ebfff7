main() {
  local device found points
  [ "$(id -u)" = 0 ] || die "unmounting needs root"
  one_at_a_time
  set_mount "$mount_point" "" "=$volume"
  if ! found=$(findmnt --noheadings --raw --mountpoint "$mount_point" --output MAJ:MIN,SOURCE); then
    found=
  fi
  found=${found##*$'\n'} # the last one hides the others
  if ! disk=$(disk_of "$volume" "$device_name"); then
    echo "$volume is no device of this machine; at $mount_point: ${found#* }"
    return
  fi
  device=$(content_device "$disk")
  if [ -n "$found" ] && [ "${found%% *}" = "$(number_of "$device")" ]; then
    umount "$mount_point" ||
      die "cannot unmount $mount_point; stop what uses it: fuser -vm $mount_point"
    echo "$mount_point: unmounted ${found#* }"
  fi
  if points=$(findmnt --noheadings --raw --source "$(readlink -f "$device")" --output TARGET); then
    die "$volume is still mounted, at ${points//$'\n'/, }"
  fi
  echo "$volume is not mounted"
}
