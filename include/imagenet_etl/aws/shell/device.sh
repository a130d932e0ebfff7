# Which device is the volume? The name given at the attachment is not what Linux calls it on Nitro.
# Source: Amazon EBS User Guide, "Map Amazon EBS volumes to NVMe device names".

root=${IMAGENET_ETL_ROOT:-} # where /dev, /sys and /etc are looked for; tests say so

# Print the disk of a volume; fails while there is none.
#   disk_of VOLUME_ID [DEVICE_OF_THE_ATTACHMENT]
disk_of() {
  local serial=${1/-/} given=${2:-} file name
  name=$root/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_$serial
  if [ -b "$name" ]; then
    echo "$name"
    return
  fi
  # An image without udev's rules has no such link, but the disk tells its serial number.
  for file in "$root"/sys/block/nvme*/device/serial; do
    if [ -e "$file" ] && [ "$(tr -d '[:space:]' <"$file")" = "$serial" ]; then
      name=${file%/device/serial}
      echo "$root/dev/${name##*/}"
      return
    fi
  done
  # Xen knows no volume ids: there the attachment's name is all there is, sd read as xvd.
  for name in "${given/\/sd//xvd}" "$given"; do
    if [ -n "$given" ] && ! is_nitro && [ -b "$root$name" ]; then
      echo "$root$name"
      return
    fi
  done
  return 1
}

# On Nitro the attachment's name can be that of another disk. Some instances on Xen have NVMe disks,
# too, but of their own.
is_nitro() {
  grep -qs "Amazon Elastic Block Store" "$root"/sys/block/nvme*/device/model
}

# Print MAJ:MIN of a device.
number_of() {
  lsblk --nodeps --noheadings --raw --output MAJ:MIN "$1" | tr -d '[:space:]'
}

# Print the only partition of a disk, or the disk when it has none.
#   content_device DISK
content_device() {
  local disk found
  disk=$(readlink -f "$1")
  found=$(lsblk --paths --noheadings --raw --output NAME,TYPE "$disk") || die "cannot look at $disk"
  found=$(awk '$2 == "part" {print $1}' <<<"$found")
  case $found in
    "") echo "$1" ;;
    *$'\n'*) die "$1 has several partitions (${found//$'\n'/, }); mount the right one by hand" ;;
    *) echo "$found" ;;
  esac
}
