"""Back a folder of files up by the stage's own code; called by the backup benchmark.

A digest is taken of each file when the benchmark makes it, as packing does. What is timed is what a
rerun of the stage does, too: listing, comparing, sending, a HEAD for each object, marks last.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import boto3

from imagenet_etl.aws.client_config import client_config
from imagenet_etl.aws.s3_backup import back_up_to_s3
from imagenet_etl.build import new_build
from imagenet_etl.config import Settings
from imagenet_etl.leases import Owner
from imagenet_etl.receipts import Output, Receipt
from imagenet_etl.stage import Place


def main(data_dir: Path, uri: str) -> None:
    """Back up version ``v1`` of the data folder, whose files ``digests.json`` lists."""
    settings = Settings(dataset="tiny_imagenet", data_dir=str(data_dir), s3_uri=uri, version="v1")
    config = client_config("s3")

    def client(service: str) -> object:
        return boto3.client(service, config=config)

    build = new_build(settings, Owner("benchmark"), client)
    files = json.loads((data_dir / "digests.json").read_text())
    outputs = tuple(Output(*file) for file in files)
    base = f"{build.published}/v1"
    verified = Receipt("verify", "digest", base, outputs, {}, {"version": "v1"})
    result = back_up_to_s3(Place(build, {"verify": verified}, "digest", "work/benchmark"))
    build.storage.close_staging()
    sys.stdout.write(json.dumps(result.facts["report"]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
