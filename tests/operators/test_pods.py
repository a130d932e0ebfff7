"""What a task's pod asks for."""

import pytest

from imagenet_etl.errors import ConfigError
from imagenet_operators.pods import KINDS, VARIABLE, executor_config, pod_resources

WANTED = '{"cpu": {"cpu": 8, "memory": "16Gi"}, "whole": {"ephemeral-storage": "50Gi"}}'


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_overridden_unless_asked_for(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert executor_config(kind) == {}
    monkeypatch.setenv(VARIABLE, "")
    assert executor_config(kind) == {}


def test_resources_are_told_by_kind() -> None:
    assert pod_resources(WANTED) == {
        "cpu": {"cpu": "8", "memory": "16Gi"},
        "whole": {"ephemeral-storage": "50Gi"},
    }


@pytest.mark.parametrize("text", ["{", "[]", '{"cpu": 8}', '{"gpu": {"cpu": "8"}}', "8"])
def test_what_cannot_be_understood_is_refused_by_the_variables_name(text: str) -> None:
    with pytest.raises(ConfigError, match=VARIABLE):
        pod_resources(text)


def test_pod_asks_for_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    k8s = pytest.importorskip("kubernetes.client.models")
    monkeypatch.setenv(VARIABLE, WANTED)
    pod = executor_config("cpu")["pod_override"]
    assert isinstance(pod, k8s.V1Pod)
    (container,) = pod.spec.containers
    assert container.name == "base"
    assert container.resources.requests == container.resources.limits
    assert container.resources.requests == {"cpu": "8", "memory": "16Gi"}
    assert executor_config("network") == {}


def test_without_the_client_nothing_can_be_overridden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, WANTED)
    monkeypatch.setattr("imagenet_operators.pods.find_spec", lambda _name: None)
    assert executor_config("cpu") == {}
