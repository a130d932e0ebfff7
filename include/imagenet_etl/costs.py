"""What a run leaves behind and what that costs a month, at list prices.

Prices are those of us-east-1 without tax, discounts and free tiers, as of ``AS_OF``. Other regions
differ by up to a half. A GB is 10^9 bytes here; AWS bills 2^30, which is 7 % less.
Sources: https://aws.amazon.com/s3/pricing/ and https://aws.amazon.com/ebs/pricing/. S3 was compared
with tables of that month; the prices of EBS could not be looked up.
"""

from __future__ import annotations

from imagenet_etl.config import Settings
from imagenet_etl.datasets import DatasetFacts

AS_OF = "2026-03"
REGION = "us-east-1"

S3_GB_MONTH = {
    "STANDARD": 0.023,  # the first 50 TB
    "INTELLIGENT_TIERING": 0.023,  # as long as it is read; plus 0.0025 USD for 1,000 objects
    "STANDARD_IA": 0.0125,
    "ONEZONE_IA": 0.01,
    "GLACIER_IR": 0.004,
}
"""USD for a GB and a month, by storage class."""

S3_LEAST_DAYS = {"STANDARD_IA": 30, "ONEZONE_IA": 30, "GLACIER_IR": 90}
"""What is deleted sooner is billed for so many days."""

S3_RETRIEVAL_GB = {"STANDARD_IA": 0.01, "ONEZONE_IA": 0.01, "GLACIER_IR": 0.03}
"""USD for a GB that is read, by storage class."""

SNAPSHOT_GB_MONTH = 0.05
SNAPSHOT_ARCHIVE_GB_MONTH = 0.0125
"""USD for a GB of changed blocks and a month; in the archive tier, of all blocks, for 90 days."""

GP3_GB_MONTH, GP3_IOPS_MONTH, GP3_MIB_S_MONTH = 0.08, 0.005, 0.04
"""USD for a GB, for an IOPS above ``GP3_FREE_IOPS``, for a MiB/s above ``GP3_FREE_MIB_S``."""
GP3_FREE_IOPS, GP3_FREE_MIB_S = 3_000, 125

TRANSFER_GB = 0.02
"""USD for a GB that is copied to another region, once."""

_GB = 1e9


def s3_usd_a_month(size_bytes: float, storage_class: str) -> float:
    """Return what objects of a storage class cost a month; an unknown one counts as STANDARD."""
    return size_bytes / _GB * S3_GB_MONTH.get(storage_class, S3_GB_MONTH["STANDARD"])


def snapshot_usd_a_month(size_bytes: float) -> float:
    """Return what a snapshot that holds so many bytes of its own costs a month."""
    return size_bytes / _GB * SNAPSHOT_GB_MONTH


def volume_usd_a_month(size_gib: int, iops: int = 0, throughput_mib_s: int = 0) -> float:
    """Return what a gp3 volume costs a month, read from or not; zeros stand for what is free."""
    return (
        size_gib * GP3_GB_MONTH
        + max(0, iops - GP3_FREE_IOPS) * GP3_IOPS_MONTH
        + max(0, throughput_mib_s - GP3_FREE_MIB_S) * GP3_MIB_S_MONTH
    )


def left_behind(
    size_bytes: int, settings: Settings, archive_bytes: int = 0, archives_on_volume: int = 0
) -> list[str]:
    """Return a line for each thing in the cloud that a run leaves behind, with its price.

    Args:
        size_bytes: Size of the version on disk.
        settings: What the run was asked to do.
        archive_bytes: Size of the archives, where ``back_up`` names them.
        archives_on_volume: Size of those that lie on the data volume while its snapshot is taken.
    """
    lines = []
    if settings.s3_uri:
        sizes = {"dataset": size_bytes, "archives": archive_bytes}
        size, kind = sum(sizes[name] for name in settings.back_up), settings.s3_storage_class
        lines.append(f"leaves S3 {kind}: {_gb(size)}, {_monthly(s3_usd_a_month(size, kind))}")
    if settings.ebs_volume_id:
        lines += _snapshots(size_bytes, archives_on_volume, settings.snapshot_regions)
    if lines:
        lines.append(f"(estimates at list prices of {REGION}, {AS_OF}, without requests and tax)")
    return lines


def _snapshots(size_bytes: int, archives: int, regions: tuple[str, ...]) -> list[str]:
    """Return a line for the snapshot of a volume and for each of its copies.

    That a volume has no other yet is the dearest case. It is no upper bound: nobody knows what else
    lies on the volume.
    """
    whole = size_bytes + archives
    price = f"about {_gb(whole)}, {_monthly(snapshot_usd_a_month(whole))}"
    held = f"the version and {_gb(archives)} of archives" if archives else "the version"
    once = whole / _GB * TRANSFER_GB
    return [
        f"leaves EBS snapshot: {price}, if it is the volume's first: {held}, beside what else lies "
        "on the volume; a later one holds only what has changed",
        *(
            f"leaves EBS snapshot in {region}: {price}, and once {_usd(once)} to copy it, if it is "
            "the first there"
            for region in regions
        ),
    ]


def cost_note(facts: DatasetFacts) -> str:
    """Return, for the form, what a run of a dataset with its images as they are leaves behind."""
    sizes = [(archive.size or archive.about_bytes, archive.kind) for archive in facts.archives]
    size = sum(size for size, _ in sizes)
    # A large tar.gz is unpacked to a tar beside it, which is about as long.
    archives = sum(size * (2 if kind == "tar.gz" else 1) for size, kind in sizes)
    s3 = " or ".join(
        f"{_usd(s3_usd_a_month(size, name))} in {name}" for name in ("STANDARD", "STANDARD_IA")
    )
    alone, both = (_usd(snapshot_usd_a_month(held)) for held in (size, size + archives))
    return (
        f"With images as they are, about {_gb(size)} a format. A month's backup of them costs "
        f"{s3}, a first snapshot in each region {both} where the archives lie on the volume too, "
        f"else {alone}; later ones hold only what changed (list prices of {REGION}, {AS_OF})."
    )


def _gb(size_bytes: float) -> str:
    gigabytes = size_bytes / _GB
    return f"{gigabytes:,.0f} GB" if gigabytes >= 10 else f"{gigabytes:,.3g} GB"


def _monthly(usd: float) -> str:
    return f"{_usd(usd)} a month"


def _usd(usd: float) -> str:
    return f"about {usd:,.2f} USD" if usd >= 0.01 else "less than a cent"
