# One scratch file system of the instance's own NVMe disks, striped if there are several.
# Needs `doit` (yes or no) and `owner` (user:group); `blank.sh` and `say.sh` come before it.

model="Amazon EC2 NVMe Instance Storage"
label=imagenet-etl # XFS takes twelve letters
array=/dev/md/$label

# Print the disks of instance storage, one a line.
instance_disks() {
  local line listing
  listing=$(lsblk --nodeps --paths --noheadings --pairs --output NAME,MODEL,TYPE) ||
    die "cannot list the disks"
  while read -r line; do
    if [[ $line =~ MODEL=\"$model\ *\" && $line == *'TYPE="disk"'* &&
      $line =~ NAME=\"(/dev/[^\"]+)\" ]]; then
      echo "${BASH_REMATCH[1]}"
    fi
  done <<<"$listing"
}

# Set `blank` to the disks that may be used, and tell of the others.
find_blank() {
  local disk content disks
  disks=$(instance_disks) || exit 1
  [ -n "$disks" ] || die "this machine has no disk of the model '$model'"
  blank=()
  while read -r disk; do
    content=$(content_of "$disk") || exit 1
    if [ -z "$content" ]; then
      blank+=("$disk")
    else
      echo "$disk is left alone, it holds: ${content//$'\n'/, }" >&2
    fi
  done <<<"$disks"
  [ ${#blank[@]} -gt 0 ] || die "no instance-store disk is blank; wipe one by hand if it may go"
}

run() {
  printf '%q ' "$@" | sed 's/ $//'
  echo
  [ "$doit" = no ] || "$@" </dev/null # whoever would ask gets no answer, and stops
}

# Make it, or mount it again.
#   stripe_nvme MOUNT_POINT
stripe_nvme() {
  local target=$1 mounted device
  if mounted=$(findmnt --noheadings --raw --mountpoint "$target" --output SOURCE,FSTYPE); then
    [[ $mounted == *' xfs' ]] || die "$target is mounted already, from $mounted"
    echo "$target is mounted already, from ${mounted% xfs}: nothing to do"
    return
  fi
  if [ -e "$target" ]; then
    [ -d "$target" ] || die "$target is no folder"
    [ -z "$(ls -A "$target")" ] || die "$target is not empty; mounting over it would hide its files"
  fi
  [ "$doit" = no ] || [ "$(id -u)" = 0 ] || die "needs root: sudo $0 $target --yes"
  if device=$(findfs "LABEL=$label" 2>/dev/null); then
    echo "# $device bears the label $label: it is mounted as it is" >&2
  else
    find_blank
    device=${blank[0]}
    if [ ${#blank[@]} -gt 1 ]; then
      device=$array
      run mdadm --create "$array" --level=0 --chunk=256 "--raid-devices=${#blank[@]}" "${blank[@]}"
    fi
    run mkfs.xfs -K -L "$label" "$device" # refuses a device that holds a file system
  fi
  run mkdir -p "$target"
  run mount -o noatime "$device" "$target"
  run chown "$owner" "$target"
}
