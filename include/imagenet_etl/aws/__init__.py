"""AWS: backup to S3 and snapshots of the data volume, through boto3 clients the caller makes."""
