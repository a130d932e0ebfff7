found_disk() {
  disk=$(disk_of "$volume" "$device_name")
}

main() {
  local device
  [ "$(id -u)" = 0 ] || die "mounting needs root"
  wait_for "$wait_s" "the device of $volume; is it attached to this instance?" found_disk
  one_at_a_time
  device=$(content_device "$disk")
  mount_device "$device" "$mount_point" "$mode"
  [ "$at_boot" = no ] || remember_mount "$device" "$mount_point" "$mode"
  echo "$volume ($device) at $mount_point: $mounted"
}
