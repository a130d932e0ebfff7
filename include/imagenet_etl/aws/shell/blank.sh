# What lies on a disk? Only a blank one may be formatted.

# Print what lies on a disk, nothing for a blank one.
content_of() {
  local disk=$1 found
  found=$(lsblk --paths --noheadings --raw --output NAME "$disk") || die "cannot look at $disk"
  [ "$found" = "$disk" ] || echo "partitions or RAID"
  found=$(lsblk --paths --noheadings --raw --output FSTYPE,PTTYPE,MOUNTPOINT "$disk") ||
    die "cannot look at $disk"
  [ -z "${found//[[:space:]]/}" ] || echo "${found//$'\n'/ }"
  # lsblk knows what udev has seen; this reads the disk itself, which only root may.
  if [ "$(id -u)" = 0 ]; then
    found=$(wipefs --no-act --noheadings --output TYPE "$disk") || die "cannot read $disk"
    [ -z "$found" ] || echo "a signature of ${found//$'\n'/ }"
  fi
}
