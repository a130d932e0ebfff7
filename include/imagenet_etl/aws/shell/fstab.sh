# Mounts of the next boot.

# Drop our line of the mount point; the marker among its options says that it is ours.
#   forget_mount MOUNT_POINT
forget_mount() {
  local point=$1 table=$root/etc/fstab
  [ -e "$table" ] || return 0
  awk -v point="$point" '!($2 == point && $4 ~ /x-imagenet-etl/)' "$table" >"$table.imagenet-etl"
  cmp -s "$table" "$table.imagenet-etl" || cat "$table.imagenet-etl" >"$table"
  rm "$table.imagenet-etl"
}
