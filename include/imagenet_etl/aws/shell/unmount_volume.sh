main() {
  local source
  [ "$(id -u)" = 0 ] || die "unmounting needs root"
  forget_mount "$mount_point"
  if ! source=$(findmnt --noheadings --raw --mountpoint "$mount_point" --output SOURCE); then
    echo "$mount_point: nothing is mounted there"
    return
  fi
  umount "$mount_point" || die "cannot unmount $mount_point; stop what uses it: fuser -vm $mount_point"
  echo "$mount_point: unmounted ${source//$'\n'/, }"
}
