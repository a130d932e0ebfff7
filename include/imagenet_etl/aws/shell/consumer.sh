# A dataset, mounted read-only from its newest snapshot.

# Set `snapshot`, `manifest` and `path` by the newest usable snapshot of the dataset. That of another
# account shows no tags here: its description tells the same.
newest_snapshot() {
  local found filters=("Name=status,Values=completed")
  local told="[Tags[?Key=='$prefix:manifest'].Value|[0], Tags[?Key=='$prefix:path'].Value|[0]]"
  if [ -n "$shared_by" ]; then
    told=Description
    filters+=("Name=description,Values=$prefix $dataset/${version:-*} manifest:* path:*")
  else
    filters+=("Name=tag:$prefix:dataset,Values=$dataset")
    [ -z "$version" ] || filters+=("Name=tag:$prefix:version,Values=$version")
  fi
  # JSON, for the CLI applies a query to each page of a text.
  snapshot=$(ec2 describe-snapshots --owner-ids "${shared_by:-self}" --filters "${filters[@]}" \
    --output json --query \
    "sort_by(Snapshots[?!(Tags[?Key=='$prefix:unusable'])], &StartTime)[-1].SnapshotId" |
    tr -d '"') || die "cannot list snapshots"
  [[ $snapshot == snap-* ]] ||
    die "no completed snapshot of $dataset ${version:-of any version} in $region"
  found=$(ec2 describe-snapshots --snapshot-ids "$snapshot" --output text \
    --query "Snapshots[0].$told") || die "cannot look at $snapshot"
  IFS=$'\t' read -r manifest path <<<"$found"
  if [ -n "$shared_by" ]; then
    path=${found#* path:}
    found=${found#* manifest:}
    manifest=${found%% *}
  fi
  case $path in "" | None) die "no tag of $snapshot tells where in it $dataset is" ;; esac
}

# Set `volume` and `holder`: this instance's own from an earlier boot, or a new one.
dataset_volume() {
  local found state tags
  found=$(tagged_volume "$prefix:deployment" "$instance:$mount_point")
  made=no
  if [ -z "$found" ]; then
    newest_snapshot
    echo "$dataset is in $snapshot; making a volume of $volume_type in $zone"
    # JSON, for a path may hold what the CLI's own notation is made of.
    found=${path//\\/\\\\}
    tags=$(printf ',{"Key":"%s","Value":"%s"}' Name "$prefix $dataset" "$prefix:dataset" "$dataset" \
      "$prefix:deployment" "$instance:$mount_point" "$prefix:manifest" "$manifest" \
      "$prefix:path" "${found//\"/\\\"}")
    make_volume --availability-zone "$zone" --snapshot-id "$snapshot" --volume-type "$volume_type" \
      --tag-specifications "[{\"ResourceType\":\"volume\",\"Tags\":[${tags#,}]}]"
    made=yes
  else
    read -r volume state holder <<<"$found"
    read -r found manifest path <<<"$(volume_tag dataset) $(volume_tag manifest) $(volume_tag path)"
    [ "$found" = "$dataset" ] || die "$volume at $mount_point is of $found, not of $dataset"
    # It holds nothing that the snapshot does not, and bars the way to another.
    [ "$state" != error ] || made=yes
  fi
}

volume_tag() {
  ec2 describe-volumes --volume-ids "$volume" --output text \
    --query "Volumes[0].Tags[?Key=='$prefix:$1'].Value|[0]"
}

# A volume that never got as far as to end with its instance would be paid for ever.
undo_volume() {
  [ "$made" = yes ] || return 0
  made=no
  echo "deleting $volume again"
  if ! settled; then
    ec2 detach-volume --volume-id "$volume" --instance-id "$instance" --output text || true
    wait_for 300 "volume $volume to be detached" settled
  fi
  ec2 delete-volume --volume-id "$volume"
}

# Let the volume end with the instance.
end_with_instance() {
  ec2 modify-instance-attribute --instance-id "$instance" --block-device-mappings \
    "[{\"DeviceName\":\"$device_name\",\"Ebs\":{\"DeleteOnTermination\":true}}]" ||
    die "cannot let $volume be deleted with $instance"
  made=no
}

# What was read in full once is compared by size at later boots: the mount is read-only.
check_dataset() {
  local how=$verify seen=$root/var/lib/imagenet-etl/$volume-$manifest
  [ "$how" != none ] || return 0
  [ ! -e "$seen" ] || how=fast
  if verify_dataset "$mount_point/$path" "$manifest" "$how"; then
    mkdir -p "$(dirname "$seen")"
    [ "$how" = fast ] || touch "$seen"
    return
  fi
  # Nobody shall train on what is not the dataset.
  set_mount "$mount_point"
  umount "$mount_point" || true
  die "$volume does not hold $dataset as it was published"
}

main() {
  local device
  needs aws curl blkid
  [ "$verify" = none ] || needs python3
  know_instance
  run_at_every_boot
  made=no
  trap undo_volume EXIT
  dataset_volume
  attach_volume "$holder"
  end_with_instance
  wait_for 300 "the device of $volume" found_disk
  device=$(content_device "$disk")
  mount_device "$device" "$mount_point" ro
  remember_mount "$device" "$mount_point" ro
  check_dataset
  echo "$dataset: $mount_point/$path ($volume): $mounted"
}
