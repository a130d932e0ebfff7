"""What launch scripts look like, before any instance runs them."""

import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.aws.scripts import bash_text, mount_script, unmount_script, verify_script
from imagenet_etl.aws.user_data import MAX_BYTES, VERIFY, Consumer, Producer
from imagenet_etl.errors import ConfigError

LONG = "/" + "a" * 100
SCRIPTS: dict[str, Callable[[], str]] = {
    "producer": lambda: Producer("/data", 100).script(),
    "producer with all": lambda: Producer(
        LONG, 65536, "n" * 64, "ubuntu:ubuntu", "gp3", "ap-southeast-2", LONG + "s", True
    ).script(),
    "consumer": lambda: Consumer("tiny_imagenet", "/data").script(),
    "consumer with all": lambda: Consumer(
        f"ilsvrc2012@{'v' * 64}", LONG, "111122223333", "ap-southeast-2", "full", "gp3"
    ).script(),
    "consumer that trusts": lambda: Consumer("ilsvrc2012", "/data", verify="none").script(),
    "mount": lambda: mount_script(volume_id="vol-0123456789abcdef0", mount_point="/data"),
    "unmount": lambda: unmount_script(volume_id="vol-0123456789abcdef0", mount_point="/data"),
    "verify": lambda: verify_script(folder="/data/v1", manifest_sha256="0" * 64, full=True),
}


@pytest.fixture(params=SCRIPTS)
def script(request: pytest.FixtureRequest) -> str:
    return SCRIPTS[request.param]()


def test_shellcheck_has_nothing_to_say(script: str) -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    # What a heredoc hands to bash is looked at as bash.
    first, _, rest = script.partition("\n")
    if first == "#!/bin/sh":
        head, _, body = rest.partition("\n")
        end = shlex.split(head)[-1].removeprefix("<<")
        script = "#!/bin/bash\n" + body.removesuffix(end + "\n")
    done = subprocess.run([shellcheck, "-"], input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", [name for name in SCRIPTS if "r" in name and "e" in name])
def test_it_fits_into_user_data_and_starts_as_cloud_init_wants(name: str) -> None:
    text = SCRIPTS[name]()
    assert text.startswith("#!/")
    assert len(text.encode()) <= MAX_BYTES


def test_a_script_is_the_same_whenever_it_is_made(script: str) -> None:
    assert script in [make() for make in SCRIPTS.values()]


def test_no_script_holds_a_credential_or_asks_for_one(script: str) -> None:
    for word in ("AKIA", "aws_secret", "AWS_SECRET", "AWS_ACCESS", "password"):
        assert word not in script


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40))
def test_values_arrive_as_they_are(value: str) -> None:
    text = bash_text({"value": value}, call='printf %s "$value"')
    done = subprocess.run(["bash", "-c", text], capture_output=True)
    assert done.stdout.decode() == value


@pytest.mark.parametrize(
    "make",
    [
        lambda: Producer("data", 100),
        lambda: Producer("/", 100),
        lambda: Producer("/a/../etc", 100),
        lambda: Producer("/with space", 100),
        lambda: Producer("/data", 0),
        lambda: Producer("/data", 100, owner="root; reboot"),
        lambda: Producer("/data", 100, volume_type="gp9"),
        lambda: Producer("/data", 100, volume_type="io2"),
        lambda: Producer("/data", 100, volume_type="st1"),
        lambda: Producer("/data", 20_000, volume_type="gp2"),
        lambda: Consumer("tiny_imagenet", "/data", volume_type="io1"),
        lambda: Producer("/data", 100, name="x,Values=*"),
        lambda: Producer("/data", 100, region="us-east"),
        lambda: Producer("/data", 100, stripe_scratch="scratch"),
        lambda: Consumer("tiny imagenet", "/data"),
        lambda: Consumer("tiny_imagenet@", "/data"),
        lambda: Consumer("tiny_imagenet@$(reboot)", "/data"),
        lambda: Consumer("tiny_imagenet", "/data", verify="maybe"),
    ],
)
def test_what_is_malformed_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError):
        make().script()


@pytest.mark.parametrize(
    "values",
    [
        {"volume_id": "vol-1; reboot"},
        {"mount_point": "/data\n"},
        {"device": "/dev/sd f"},
    ],
)
def test_what_is_malformed_is_not_sent(values: dict[str, str]) -> None:
    good = {"volume_id": "vol-0123456789abcdef0", "mount_point": "/data"}
    with pytest.raises(ConfigError):
        mount_script(**good | values)  # type: ignore[arg-type]


def test_a_digest_is_one() -> None:
    with pytest.raises(ConfigError, match="manifest digest"):
        verify_script(folder="/data", manifest_sha256="", full=False)


def test_a_consumer_that_trusts_needs_no_python() -> None:
    assert "python3 -" not in Consumer("ilsvrc2012", "/data", verify="none").script()
    for verify in VERIFY[1:]:
        assert "python3 -" in Consumer("ilsvrc2012", "/data", verify=verify).script()


def several_partitions(listing: str) -> subprocess.CompletedProcess[str]:
    stub = f"lsblk() {{ printf '%s' {shlex.quote(listing)}; }}"
    text = bash_text({}, "say", "device", call=f"{stub}; content_device /dev/null")
    return subprocess.run(["bash", "-c", text], capture_output=True, text=True)


def test_the_only_partition_of_a_disk_is_taken() -> None:
    done = several_partitions("/dev/nvme1n1 disk\n/dev/nvme1n1p1 part\n")
    assert done.stdout == "/dev/nvme1n1p1\n"


def test_a_disk_without_partitions_is_taken_itself() -> None:
    assert several_partitions("/dev/nvme1n1 disk\n").stdout == "/dev/null\n"


def test_one_of_several_partitions_is_not_guessed() -> None:
    done = several_partitions("/dev/a disk\n/dev/a1 part\n/dev/a2 part\n")
    assert done.returncode == 1
    assert "/dev/a1, /dev/a2" in done.stderr


def test_the_parts_lie_beside_the_library() -> None:
    import imagenet_etl.aws.scripts as module

    parts = {path.stem for path in (Path(module.__file__).parent / "shell").iterdir()}
    assert {"say", "device", "fstab", "mount", "instance", "volume", "blank", "stripe"} <= parts
