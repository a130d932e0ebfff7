# Mounts of the next boot.

# Replace our line of a mount point, by none or another; whoever reads sees the old table or the new.
# Among the options, x-imagenet-etl=VOLUME says that a line is ours. Just =VOLUME drops that alone.
#   set_mount MOUNT_POINT [LINE [=VOLUME]]
set_mount() {
  local table new
  table=$(readlink -f "$root/etc/fstab")
  [ -e "$table" ] || : >"$table"
  new=$table.imagenet-etl
  cp -p "$table" "$new"
  awk -v point="$1" -v mark="x-imagenet-etl${3:-}" '!($2 == point && index($4, mark))' \
    "$table" >"$new"
  [ -z "${2:-}" ] || echo "$2" >>"$new"
  if cmp -s "$table" "$new"; then
    rm "$new"
  else
    sync "$new"
    mv "$new" "$table"
  fi
}

# Wait for another script of ours to be done.
one_at_a_time() {
  exec 9>"$root/run/imagenet-etl.lock"
  flock -w 600 9 || die "another mount is under way for ten minutes"
}
