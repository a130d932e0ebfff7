"""Make in the stand-in for AWS what a user brings along: a bucket, and a volume to snapshot."""

import os
import sys

import boto3
from botocore.config import Config


def main() -> None:
    """Make both, unless they are there already."""
    bucket = os.environ["LOCAL_AWS_BUCKET"]
    s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    if bucket not in {found["Name"] for found in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=bucket)
    ec2 = boto3.client("ec2")
    volumes = ec2.describe_volumes()["Volumes"]
    if not volumes:
        volumes = [ec2.create_volume(AvailabilityZone="us-east-1a", Size=8)]
    sys.stdout.write(f"s3://{bucket} and {volumes[0]['VolumeId']} are there\n")


if __name__ == "__main__":
    main()
