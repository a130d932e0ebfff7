# A volume in the instance's own zone: made once, attached once.

ec2() {
  aws --region "$region" ec2 "$@"
}

# Print "VOLUME_ID STATE INSTANCE" of the volume that bears a tag; nothing when there is none.
#   tagged_volume TAG VALUE
tagged_volume() {
  local found
  found=$(ec2 describe-volumes --filters "Name=tag:$1,Values=$2" \
    "Name=availability-zone,Values=$zone" --output text \
    --query 'Volumes[].[VolumeId,State,Attachments[0].InstanceId]') || die "cannot list volumes"
  found=$(awk 'NF && $2 != "deleting" && $2 != "deleted" {print $1, $2, $3}' <<<"$found")
  case $found in *$'\n'*) die "several volumes bear the tag $1=$2: ${found//$'\n'/; }" ;; esac
  echo "$found"
}

# Set `state` of `volume`, and of its attachment `link`, the state, `holder` and `device_name`.
see_volume() {
  local found
  found=$(ec2 describe-volumes --volume-ids "$volume" --output text --query \
    'Volumes[0].[State,Attachments[0].State,Attachments[0].InstanceId,Attachments[0].Device]') ||
    return 1
  read -r state link holder device_name <<<"$found"
}

# Set `volume` to a new one, `holder` to the instance that was as quick, or None. EC2 leads a token
# to what it has made for a day, even if that is deleted by then: what cannot be seen two minutes
# after it was made is gone, and takes another token.
#   make_volume OPTION...
make_volume() {
  local try token said
  for try in {1..20}; do
    token=$(sha256sum <<<"$* $try" | cut -c -64)
    said=$(ec2 create-volume "$@" --client-token "$token" --output text \
      --query '[VolumeId,CreateTime]') || die "cannot create a volume"
    read -r volume said <<<"$said"
    said=$(date -d "$said" +%s)
    while true; do
      see_volume 2>/dev/null || state=
      case $state in
        deleting | deleted) break ;;
        ?*) return ;;
      esac
      [ "$(date +%s)" -lt $((said + 120)) ] || break
      sleep 2
    done
  done
  die "all volumes that were made are gone again"
}

# Made, and attached to nothing: or it will never be.
settled() {
  see_volume && [[ $state =~ ^(available|error)$ ]]
}

held() {
  see_volume && [ "$holder" != None ]
}

attached() {
  see_volume && [ "$link $holder" = "attached $instance" ]
}

# Print the names of devices that the instance uses.
used_devices() {
  ec2 describe-instances --instance-ids "$instance" --output text \
    --query 'Reservations[].Instances[].BlockDeviceMappings[].DeviceName'
}

# Have `volume` attached under the first free name.
ask_for_attachment() {
  local used letter said
  wait_for 600 "volume $volume to be available" settled
  [ "$state" != error ] || die "volume $volume ended in an error"
  used=$(used_devices) || die "cannot see the devices of $instance"
  for letter in f g h i j k l m n o p; do
    [[ $used != */dev/sd$letter* && $used != */dev/xvd$letter* ]] || continue
    said=$(ec2 attach-volume --volume-id "$volume" --instance-id "$instance" \
      --device "/dev/sd$letter" --output text 2>&1) && return
    # Where a reply is lost, the CLI asks again and is refused; what the first try did shows late.
    [[ $said != *VolumeInUse* ]] || wait_for 60 "the attachment of $volume" held
    if held && [ "$holder" = "$instance" ]; then return; fi
    # Somebody else took the name in between.
    [[ $said == *"already in use"* ]] || die "cannot attach $volume: $said"
  done
  die "$instance has no free device name for $volume"
}

# Attach `volume`, unless it is; sets `device_name`.
#   attach_volume INSTANCE_IT_IS_ATTACHED_TO
attach_volume() {
  case $1 in
    "$instance") ;;
    None) ask_for_attachment ;;
    *) die "volume $volume is attached to $1" ;;
  esac
  wait_for 300 "the attachment of $volume" attached
}

found_disk() {
  disk=$(disk_of "$volume" "$device_name")
}
