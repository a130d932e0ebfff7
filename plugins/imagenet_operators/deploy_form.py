"""The trigger form of a deployment."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from airflow.sdk import Param

from imagenet_etl.aws.deployment import DEFAULT_MOUNT, VERIFY, Wanted
from imagenet_etl.aws.ebs.volume_request import TYPES
from imagenet_etl.datasets import DATASETS
from imagenet_operators.form_fields import choice, text_field

_WHAT, _WHERE, _VOLUME = "Dataset", "Instances", "Volume"


def deploy_form() -> dict[str, Param]:
    """Return the params of ``deploy_dataset``, in the order of the form."""
    return {
        "dataset": choice(
            _WHAT,
            tuple(DATASETS),
            "Dataset",
            "Its terms hold wherever its data is.",
            values_display={name: facts.title for name, facts in DATASETS.items()},
        ),
        "version": text_field(_WHAT, "Version", "Empty: that of the newest snapshot."),
        "shared_by": text_field(
            _WHAT,
            "Shared by account",
            "The account, of twelve digits, that shares its snapshot with this one. Empty: this "
            "one's own.",
            pattern=r"^([0-9]{12})?$",
        ),
        "verify": choice(
            _WHAT,
            VERIFY,
            "Verify on the instance",
            "**fast** compares names and sizes; **full** reads every byte, which also loads the "
            "volume and may take hours for a terabyte.",
        ),
        "instance_ids": Param(
            [],
            type="array",
            minItems=1,
            items={"type": "string", "pattern": r"^i-[0-9a-f]{8,17}$"},
            title="Instances",
            section=_WHERE,
            description_md="Ids, one a line. Each gets a volume of its own.",
        ),
        "region": text_field(_WHERE, "Region", "Empty: that of the connection **aws_default**."),
        "availability_zone": text_field(
            _WHERE, "Availability zone", "Empty: each instance's own. Another one is refused."
        ),
        "mount_point": Param(
            DEFAULT_MOUNT,
            type="string",
            pattern=r"^(/[A-Za-z0-9._-]+)+$",
            maxLength=64,
            title="Mount point",
            section=_WHERE,
            description_md="A folder on the instance; it is made when it is missing.",
        ),
        "read_only": Param(
            True,
            type="boolean",
            title="Read-only",
            section=_WHERE,
            description_md="Whether the volume is mounted so that nothing can change the data.",
        ),
        "delete_on_termination": Param(
            True,
            type="boolean",
            title="Delete with the instance",
            section=_VOLUME,
            description_md="Whether the volume ends when its instance is terminated. Else it costs "
            "money until somebody deletes it.",
        ),
    } | _volume()


def _volume() -> dict[str, Param]:
    return {
        "volume_type": choice(_VOLUME, tuple(TYPES), "Type", "**gp3** suits most training."),
        "iops": _rate("IOPS", "I/O operations a second; 0: the type's own. **io1** and **io2** "
                      "need a number."),
        "throughput_mib_s": _rate("Throughput", "MiB a second, for gp3: 125 to 2,000; 0: 125."),
        "initialization_mib_s": _rate(
            "Initialization rate",
            "MiB a second at which EBS loads the snapshot, at a price: 100 to 300; 0: each block "
            "when it is first read.",
        ),
    }  # fmt: skip


def _rate(title: str, text: str) -> Param:
    return Param(0, type="integer", minimum=0, title=title, section=_VOLUME, description_md=text)


def wanted(params: dict[str, Any]) -> Wanted:
    """Return what a run's params ask for; what the API left out or gave as null is the default.

    Raises:
        ConfigError: A value is out of its bounds.
    """
    given = {item.name: params.get(item.name) for item in fields(Wanted)}
    return Wanted(**{name: value for name, value in given.items() if value is not None})
