# The volume that datasets are built on: found by its tag, or made; formatted only when blank.

# Set `volume`, `holder` (the instance it is attached to, or None).
data_volume() {
  local found state
  found=$(tagged_volume "$tag" "$name")
  if [ -z "$found" ]; then
    echo "making $name: ${size_gib} GiB of $volume_type in $zone"
    make_volume --availability-zone "$zone" --size "$size_gib" --volume-type "$volume_type" \
      --tag-specifications "ResourceType=volume,Tags=[{Key=Name,Value=$name},{Key=$tag,Value=$name}]"
  else
    read -r volume state holder <<<"$found"
  fi
}

# Three witnesses, and none of them may see anything: lsblk with wipefs, blkid, the first bytes.
#   format_when_blank DISK
format_when_blank() {
  local disk content found=0
  disk=$(readlink -f "$1")
  content=$(content_of "$disk")
  [ -z "$content" ] || return 0
  blkid -p "$disk" >/dev/null || found=$?
  [ $found = 2 ] || die "blkid is not sure that $disk is blank; it is not formatted"
  # A volume that was never written reads as zeros.
  cmp -s -n 4194304 "$disk" /dev/zero || die "$disk holds bytes of no known kind; it is not formatted"
  echo "$volume is blank: making a file system"
  mkfs.xfs -q -K "$disk" </dev/null
}

# Stop this machine, whichever it is. By the API it never terminates, as by a shutdown it may.
stop_itself() {
  know_instance
  ec2 stop-instances --instance-ids "$instance" >/dev/null
}

# A command for the end of a run. An image of this instance takes it along, and so it knows no id.
install_runner() {
  local file=$root/usr/local/bin/imagenet-etl-run
  mkdir -p "$(dirname "$file")"
  cat >"$file" <<RUNNER
#!/usr/bin/env bash
if [ \$# = 0 ]; then
  echo "usage: imagenet-etl-run COMMAND [ARGUMENT...]; it stops this instance when the command" \\
    "has ended, well or not, unless there is $root/run/imagenet-etl-keep" >&2
  exit 2
fi
export AWS_RETRY_MODE=standard AWS_MAX_ATTEMPTS=10
imds=\${IMAGENET_ETL_IMDS:-$imds} expected_region=
$(declare -f die ask_imds metadata know_instance ec2 stop_itself)
# Who ends this ends the command, and the instance stops all the same.
trap 'kill -TERM "\$!" 2>/dev/null' TERM INT HUP
"\$@" <&0 &
while true; do
  code=0
  wait "\$!" || code=\$?
  kill -0 "\$!" 2>/dev/null || break
done
echo "imagenet-etl: '\$*' ended with \$code" >&2
sync
if [ -e "$root/run/imagenet-etl-keep" ]; then
  echo "imagenet-etl: kept running" >&2
else
  for pause in 5 30 120 600 0; do
    (stop_itself) && break
    sleep "\${IMAGENET_ETL_PAUSE:-\$pause}"
  done
fi
exit \$code
RUNNER
  chmod 755 "$file"
}

main() {
  local device
  needs aws curl blkid wipefs mkfs.xfs
  know_instance
  run_at_every_boot
  [ "$stop_when_done" = no ] || install_runner
  data_volume
  attach_volume "$holder"
  wait_for 300 "the device of $volume" found_disk
  format_when_blank "$disk"
  device=$(content_device "$disk")
  mount_device "$device" "$mount_point" rw
  remember_mount "$device" "$mount_point" rw
  # A new one is root's and empty, also at the boot after a crash.
  [ "$(stat -c %u "$mount_point")$(ls -A "$mount_point")" != 0 ] || chown "$owner" "$mount_point"
  echo "$volume ($device) at $mount_point: $mounted"
  [ -z "$scratch" ] || stripe_nvme "$scratch"
}
