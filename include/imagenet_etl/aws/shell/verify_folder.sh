main() {
  command -v python3 >/dev/null || die "python3 is needed on the instance to verify $folder"
  verify_dataset "$folder" "$manifest_sha256" "$how"
}
