# How a script on an instance speaks: one line, and the exit code says that it failed.

die() {
  echo "imagenet-etl: $*" >&2
  exit 1
}

# Run a command every other second until it succeeds.
#   wait_for SECONDS WHAT COMMAND [ARGUMENT...]
wait_for() {
  local what=$2 until=$((SECONDS + $1))
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$until" ] || die "waited in vain for $what"
    sleep "${IMAGENET_ETL_PAUSE:-2}"
  done
}
