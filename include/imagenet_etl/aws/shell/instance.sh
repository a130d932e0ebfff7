# What a first boot knows of itself, and what lets a later one do the same again.

export AWS_RETRY_MODE=standard AWS_MAX_ATTEMPTS=10 AWS_PAGER=""
imds=${IMAGENET_ETL_IMDS:-http://169.254.169.254}
per_boot=$root/var/lib/cloud/scripts/per-boot

# The service is the machine's own; a proxy would ask its own.
ask_imds() {
  curl -sS --fail --noproxy '*' --max-time 5 --retry 5 "$@"
}

# Print a piece of the instance's metadata, by IMDSv2.
#   metadata NAME
metadata() {
  ask_imds -H "X-aws-ec2-metadata-token: $imds_token" "$imds/latest/meta-data/$1" ||
    die "the instance metadata service does not tell $1"
}

# Set `instance`, `zone` and `region`.
know_instance() {
  imds_token=$(ask_imds -X PUT "$imds/latest/api/token" \
    -H "X-aws-ec2-metadata-token-ttl-seconds: 300") || die "this is no EC2 instance with IMDSv2"
  instance=$(metadata instance-id) || exit
  zone=$(metadata placement/availability-zone) || exit
  region=$(metadata placement/region) || exit
  [ -z "$expected_region" ] || [ "$region" = "$expected_region" ] ||
    die "this instance is in $region, but the script was made for $expected_region"
}

# cloud-init runs user data at the first boot alone. An image made of this instance takes the copy
# along; its name tells that it is another's.
run_at_every_boot() {
  local copy=$per_boot/imagenet-etl-$role-$instance
  case $0 in
    "$copy") return ;;
    "$per_boot"/*) rm -f "$0" && exit 0 ;;
  esac
  [ -d "$per_boot" ] || return 0
  install -m 700 "$0" "$copy"
}

needs() {
  local name
  for name in "$@"; do
    command -v "$name" >/dev/null || die "this image lacks $name"
  done
}

# Do it, and keep what was said.
logged_main() {
  umask 022
  main 2>&1 | tee -a "$root/var/log/imagenet-etl-$role.log"
}
