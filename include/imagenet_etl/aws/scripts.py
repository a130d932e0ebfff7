"""Scripts that run as root on an instance, sent by SSM's document ``AWS-RunShellScript``.

That document runs ``/bin/sh``, so each of them hands its text to bash. All are idempotent: what is
done already is success, so that a command that was sent twice does no harm. The parts are files in
``shell/``; values come in as assignments before them, quoted. They need bash, util-linux and, to
verify, Python 3.7 or newer. Source: AWS Systems Manager User Guide, "Running shell scripts on
managed nodes".
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from imagenet_etl.errors import ConfigError

ATTACH_WAIT_S = 300
"""How long a script waits for the device of a volume that was attached."""

_SHELL = Path(__file__).parent / "shell"
_PYTHON = Path(__file__).parent / "instance_check.py"
_END, _PYTHON_END = "IMAGENET_ETL_SCRIPT", "IMAGENET_ETL_PYTHON"
_VOLUME = r"vol-[0-9a-f]{8,17}"
_DEVICE = r"(/dev/[a-z0-9]+)?"
_SHA256 = r"[0-9a-f]{64}"
_ACCOUNT = r"([0-9]{12})?"
# No spaces: /etc/fstab and the columns of findmnt would need them escaped.
_FOLDER = r"/[A-Za-z0-9._/-]+"


def mount_script(
    *,
    volume_id: str,
    mount_point: str,
    read_only: bool = True,
    device: str = "",
    at_boot: bool = False,
) -> str:
    """Return the script that mounts an attached volume.

    Args:
        volume_id: The volume; on Nitro its device is found by this id.
        mount_point: An absolute path, made when missing; refused when it is not empty.
        read_only: Whether the mount is read-only and replays no log.
        device: The attachment's name, such as ``/dev/sdf``; instances on Xen need it.
        at_boot: Whether ``/etc/fstab`` gets a line, with ``nofail``.

    Raises:
        ConfigError: A value is malformed.
    """
    checked("volume id", volume_id, _VOLUME)
    checked("device", device, _DEVICE)
    values = {
        "volume": volume_id,
        "device_name": device,
        "mount_point": checked_folder("mount point", mount_point),
        "mode": "ro" if read_only else "rw",
        "at_boot": "yes" if at_boot else "no",
        "wait_s": str(ATTACH_WAIT_S),
    }
    return _for_sh(bash_text(values, "say", "device", "fstab", "mount", "mount_volume"))


def unmount_script(*, volume_id: str, mount_point: str, device: str = "") -> str:
    """Return the script that unmounts a volume, and drops its line in ``fstab``.

    What else is mounted there stays, and is no failure: then the volume is not mounted.

    Args:
        volume_id: The volume.
        mount_point: Where it is mounted, if it is.
        device: The attachment's name, such as ``/dev/sdf``; instances on Xen need it.

    Raises:
        ConfigError: A value is malformed.
    """
    values = {
        "volume": checked("volume id", volume_id, _VOLUME),
        "device_name": checked("device", device, _DEVICE),
        "mount_point": checked_folder("mount point", mount_point),
    }
    return _for_sh(bash_text(values, "say", "device", "fstab", "unmount_volume"))


def verify_script(*, folder: str, manifest_sha256: str, full: bool) -> str:
    """Return the script that compares a version's folder with the digest of its manifest.

    Args:
        folder: The version's folder on the instance.
        manifest_sha256: What the snapshot's tag says of ``manifest.json``, in hex.
        full: Whether every byte is read, which also loads a volume made from a snapshot; else
            names and sizes are compared.

    Raises:
        ConfigError: A value is malformed.
    """
    values = {
        "folder": checked_folder("folder", folder),
        "manifest_sha256": checked("manifest digest", manifest_sha256, _SHA256),
        "how": "full" if full else "fast",
    }
    return _for_sh(bash_text(values, "say", "@verify", "verify_folder"))


def bash_text(values: Mapping[str, str], *parts: str, call: str = "main") -> str:
    """Return bash: the values as assignments, the parts of ``shell/``, and the call of one of them.

    The part ``@verify`` is the function ``verify_dataset FOLDER SHA256 fast|full``. All is read
    before anything runs, and nothing that runs can read the script as its own input.
    """
    lines = ["set -euo pipefail", *(f"{name}={shlex.quote(text)}" for name, text in values.items())]
    texts = [_verify_function() if part == "@verify" else _part(part) for part in parts]
    return "\n\n".join(["\n".join(lines), *texts, f"{call} </dev/null"]) + "\n"


def checked(name: str, value: str, pattern: str) -> str:
    """Return a value that goes into a script.

    Raises:
        ConfigError: It does not have the pattern.
    """
    if re.fullmatch(pattern, value) is None:
        raise ConfigError(f"the {name}", expected=f"the form {pattern}", found=repr(value))
    return value


def checked_account(account: str) -> str:
    """Return the account that shares a snapshot; empty for our own.

    Raises:
        ConfigError: It is not of twelve digits.
    """
    return checked("account that shares the snapshot", account, _ACCOUNT)


def checked_folder(name: str, value: str) -> str:
    """Return an absolute path that needs no escaping in ``/etc/fstab``, without a last slash.

    Raises:
        ConfigError: It is another, or the root.
    """
    path = checked(name, value, _FOLDER).rstrip("/")
    if not path or posixpath.normpath(path) != path:
        raise ConfigError(
            f"the {name}", expected="an absolute path below /, without . and ..", found=repr(value)
        )
    return path


def _part(name: str) -> str:
    return (_SHELL / f"{name}.sh").read_text().strip()


def _verify_function() -> str:
    text = _PYTHON.read_text().strip()
    call = f"python3 - \"$@\" <<'{_PYTHON_END}'"
    return f"verify_dataset() {{\n  {call}\n{text}\n{_PYTHON_END}\n}}"


def _for_sh(bash: str) -> str:
    return f"#!/bin/sh\nexec bash -s <<'{_END}'\n{bash}{_END}\n"
