#!/bin/sh
# What docker-compose.yaml needs once before anything starts; a second time changes nothing.
set -eu
here=$(dirname "$0")

airflow db migrate
python "$here/passwords.py"
# The slots come from .env each time, so a change in the UI lasts until the next start.
airflow pools set network "$NETWORK_SLOTS" "Downloads and uploads"
airflow pools set cpu "$CPU_SLOTS" "Packing and verifying: each task uses every core"
case $AIRFLOW_VAR_IMAGENET_DATA_DIR in
  s3://*) ;; # a bucket is seen by every worker or by none
  *) python -m imagenet_etl share-folder "$AIRFLOW_VAR_IMAGENET_DATA_DIR" ;;
esac
