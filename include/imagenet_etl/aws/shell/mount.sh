# Mount a device where nothing else is, or find that it is mounted there already.

# Print the options that mount a kind of file system.
#   mount_options KIND ro|rw
mount_options() {
  local options=$2,noatime,nodev,nosuid
  case $1-$2 in
    # Every volume of a snapshot has the same UUID, which XFS mounts only once unless told. Its log
    # has to be replayed, read-only or not: of a mounted file system, what came last is there alone.
    xfs-*) echo "$options,nouuid" ;;
    *) echo "$options" ;;
  esac
}

# Tell whether the device is mounted there as asked; anything else there ends the script.
#   mounted_right DEVICE MOUNT_POINT ro|rw
mounted_right() {
  local device=$1 point=$2 mode=$3 found number
  number=$(number_of "$device")
  if found=$(findmnt --noheadings --raw --mountpoint "$point" --output MAJ:MIN,OPTIONS,SOURCE); then
    found=${found##*$'\n'} # the last one hides the others
    [ "${found%% *}" = "$number" ] || die "$point is in use: ${found##* } is mounted there"
    case ,$(cut -d ' ' -f 2 <<<"$found"), in
      *,"$mode",*) return 0 ;;
      *) die "$point is mounted already, but not '$mode'; unmount it first" ;;
    esac
  fi
  found=$(findmnt --noheadings --raw --source "$(readlink -f "$device")" --output TARGET) || return 1
  die "$device is mounted already, at ${found//$'\n'/, }"
}

# Mount, once; sets `mounted` to what was done.
#   mount_device DEVICE MOUNT_POINT ro|rw
mount_device() {
  local device=$1 point=$2 mode=$3 kind options
  mounted="is mounted already"
  mounted_right "$device" "$point" "$mode" && return
  if [ -e "$point" ] || [ -L "$point" ]; then
    [[ -d $point && ! -L $point ]] || die "$point is no folder"
    [ -z "$(ls -A "$point")" ] || die "$point is not empty; mounting over it would hide its files"
  fi
  kind=$(blkid -p -o value -s TYPE "$device") || die "$device holds no file system"
  options=$(mount_options "$kind" "$mode")
  mkdir -p "$point"
  mount -t "$kind" -o "$options" "$device" "$point" || die "cannot mount $device ($kind) at $point"
  mounted="mounted $mode"
}

# Let it be mounted at every boot; a volume that is gone does not stop the boot.
#   remember_mount DEVICE MOUNT_POINT ro|rw
remember_mount() {
  local device=$1 point=$2 mode=$3 table=$root/etc/fstab kind line
  # udev names a partition after its disk; its number is not in doubt, there is one.
  case $device in */by-id/*) ;; *) device=UUID=$(blkid -p -o value -s UUID "$device") ;; esac
  kind=$(blkid -p -o value -s TYPE "$1")
  line="$device $point $kind $(mount_options "$kind" "$mode"),nofail"
  line+=",x-systemd.device-timeout=2min,x-imagenet-etl=$volume 0 0"
  if [ -e "$table" ] && awk -v point="$point" '$1 !~ /^#/ && $2 == point && $4 !~ /x-imagenet-etl/ {
    found = 1} END {exit !found}' "$table"; then
    die "$table has a line of someone else's for $point"
  fi
  set_mount "$point" "$line"
}
