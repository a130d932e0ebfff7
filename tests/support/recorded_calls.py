"""What this project asks of AWS, as it asks, beside what its IAM policies allow.

Only calls that code below ``include/`` or ``plugins/`` makes in this process are recorded: those of
a test's own set-up are not ours. Sources for what a call needs: Service Authorization Reference;
Amazon S3 User Guide, "Required permissions for Amazon S3 API operations" and "Conditional writes".
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.client

import imagenet_etl.aws

ROOT = Path(__file__).resolve().parents[2]
POLICIES = Path(imagenet_etl.aws.__file__).parent / "policies"
_OURS = (f"{ROOT / 'include'}/", f"{ROOT / 'plugins'}/")
_NOT_OURS = (f"{ROOT / 'tests'}/", f"{ROOT / 'benchmarks'}/", f"{ROOT / 'scripts'}/")
_S3 = {
    "HeadObject": ["GetObject"],
    "HeadBucket": ["ListBucket"],
    "ListObjectsV2": ["ListBucket"],
    "ListMultipartUploads": ["ListBucketMultipartUploads"],
    "ListParts": ["ListMultipartUploadParts"],
    "CreateMultipartUpload": ["PutObject"],
    "UploadPart": ["PutObject"],
    "UploadPartCopy": ["GetObject", "PutObject"],
    "CompleteMultipartUpload": ["PutObject"],
    "CopyObject": ["GetObject", "PutObject"],
    "DeleteObjects": ["DeleteObject"],
}


def actions_of(service: str, operation: str, parameters: Mapping[str, Any]) -> set[str]:
    """Return the IAM actions that a call needs."""
    names = set(_S3.get(operation, [operation]) if service == "s3" else [operation])
    if service == "s3" and "IfMatch" in parameters and operation == "PutObject":
        names.add("GetObject")
    if service == "s3" and parameters.get("Tagging"):
        names.add("PutObjectTagging")
    if service == "ec2" and parameters.get("TagSpecifications"):
        names.add("CreateTags")
    return {f"{service}:{name}" for name in names}


def actions_of_script(text: str) -> set[str]:
    """Return the IAM actions that a script needs which calls EC2 by the AWS CLI, in any branch."""
    commands = re.findall(r"\bec2 ((?:[a-z]+-)+[a-z]+)", text)
    actions = {f"ec2:{''.join(word.title() for word in name.split('-'))}" for name in commands}
    return actions | ({"ec2:CreateTags"} if "--tag-specifications" in text else set())


def statements(policy: str) -> list[dict[str, Any]]:
    """Return the statements of a policy by its file's name."""
    found: list[dict[str, Any]] = json.loads((POLICIES / f"{policy}.json").read_text())["Statement"]
    return found


def allowed_by(*policies: str) -> set[str]:
    """Return the actions that policies allow us to call."""
    return {
        action
        for policy in policies
        for statement in statements(policy)
        if not is_for_aws(statement)
        for action in statement["Action"]
    }


def is_for_aws(statement: Mapping[str, Any]) -> bool:
    """Tell whether a statement is for calls that S3 or EC2 makes with our rights, on our keys."""
    return any("kms:ViaService" in keys for keys in statement.get("Condition", {}).values())


def policy_names() -> list[str]:
    """Return the names of all policies."""
    return sorted(path.stem for path in POLICIES.glob("*.json"))


@dataclass
class Recorded:
    """Calls of ours: service, operation, and the actions they need."""

    calls: set[tuple[str, str, frozenset[str]]] = field(default_factory=set)

    @property
    def actions(self) -> set[str]:
        return {action for _, _, actions in self.calls for action in actions}

    def not_allowed(self, *policies: str) -> list[str]:
        """Return the calls that no policy allows; of all policies unless some are named."""
        allowed = allowed_by(*(policies or policy_names()))
        return sorted(
            f"{service}:{operation} needs {', '.join(sorted(actions - allowed))}"
            for service, operation, actions in self.calls
            if actions - allowed
        )


def _is_ours() -> bool:
    """Tell by the nearest caller that lies in this project; a library's own thread has none."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(_OURS):
            return True
        if frame.f_code.co_filename.startswith(_NOT_OURS) and "support/recorded" not in (
            frame.f_code.co_filename
        ):
            return False
        frame = frame.f_back  # type: ignore[assignment]
    return True


@contextmanager
def record_session_calls() -> Iterator[Recorded]:
    """Record every call of ours in this process until the block ends; blocks may be nested."""
    recorded = Recorded()
    client = botocore.client.BaseClient
    before = client._make_api_call

    def make(self: Any, operation: str, parameters: dict[str, Any]) -> Any:
        if _is_ours():
            service = self.meta.service_model.service_name
            actions = frozenset(actions_of(service, operation, parameters))
            recorded.calls.add((service, operation, actions))
        return before(self, operation, parameters)

    client._make_api_call = make
    try:
        yield recorded
    finally:
        client._make_api_call = before
