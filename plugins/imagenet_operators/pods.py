"""What a task's pod asks for, by kind of task, under ``KubernetesExecutor``."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from typing import Any

from imagenet_etl.errors import ConfigError

VARIABLE = "IMAGENET_POD_RESOURCES"
"""Names the environment variable: JSON such as ``{"cpu": {"cpu": "8", "memory": "16Gi"}}``."""

KINDS = ("network", "small", "cpu", "whole")
"""Of tasks: what waits for servers, what transforms tables, what packs, what handles it all."""

# Source: Airflow, "Kubernetes Executor": the name of the container that runs the task.
_CONTAINER = "base"


def executor_config(kind: str) -> dict[str, Any]:
    """Return a task's ``executor_config``; nothing unless the environment asks for something.

    It is also nothing where the Kubernetes client is not installed, since nothing could use it.

    Args:
        kind: One of ``KINDS``.

    Raises:
        ConfigError: The environment asks for something that cannot be understood.
    """
    wanted = pod_resources(os.environ.get(VARIABLE) or "{}").get(kind)
    if not wanted or find_spec("kubernetes") is None:
        return {}
    # It takes a second to import, which only those pay who want it.
    from kubernetes.client import models as k8s

    resources = k8s.V1ResourceRequirements(requests=wanted, limits=wanted)
    container = k8s.V1Container(name=_CONTAINER, resources=resources)
    return {"pod_override": k8s.V1Pod(spec=k8s.V1PodSpec(containers=[container]))}


def pod_resources(text: str) -> dict[str, dict[str, str]]:
    """Parse resources by kind of task; each is both requested and the limit.

    Raises:
        ConfigError: It is not JSON of that shape, or names another kind.
    """
    try:
        given = json.loads(text)
        kinds = {kind: {k: str(v) for k, v in wanted.items()} for kind, wanted in given.items()}
    except (ValueError, AttributeError) as error:
        raise ConfigError(
            VARIABLE, expected='JSON such as {"cpu": {"cpu": "8", "memory": "16Gi"}}', found=error
        ) from error
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"{VARIABLE} names {kind!r}", expected=" or ".join(KINDS))
    return kinds
