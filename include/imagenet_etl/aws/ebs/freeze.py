"""Hold a file system still while a snapshot of it begins.

A published version is flushed and never changed, so its snapshot is good without a freeze; one
makes the rest of the volume consistent as well. EC2 fixes the content when CreateSnapshot returns,
so it lasts for one call. Source: Amazon EBS User Guide, "Create Amazon EBS snapshots".
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from imagenet_etl.aws.ebs import freeze_guard
from imagenet_etl.aws.ebs.device import volume_under
from imagenet_etl.errors import FreezeFailed

log = logging.getLogger(__name__)

LIMIT_S = 60.0
"""How long a file system is held at most: everything that writes to it waits."""

_FILE_SYSTEMS = ("ext4", "xfs")
_ANSWER_S = 10.0
_HOST_PIDS = 0xEFFFFFFC
"""Inode of the host's own process namespace. Source: linux/nsfs.h, ``PID_NS_INIT_INO``."""

_AS_ASKED = "thawed as asked"


@contextmanager
def frozen(mount_point: Path, limit_s: float = LIMIT_S) -> Iterator[None]:
    """Freeze a file system for the block.

    A process of its own freezes and thaws it: after ``limit_s``, or at once when this process
    dies, however it dies. In a container both would die at once, and the freeze outlive them: there
    it is refused. Nothing in the block may write to that file system.

    Args:
        mount_point: Where it is mounted; ext4 or XFS, and not the root file system.
        limit_s: Seconds after which it is thawed in any case.

    Raises:
        FreezeFailed: It may not or cannot be frozen; or, at the end of the block, it was thawed
            before that end, so what the block took of it may be inconsistent.
    """
    _check_can_freeze(mount_point)
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", freeze_guard.__file__, str(mount_point), str(limit_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        bufsize=0,
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    with guard.stdin, guard.stdout:
        guard.wait()  # it goes on in a child of its own
        answer = _line(guard.stdout, limit_s)
        if answer != "frozen":
            # Closing the pipe ends a guard that is at it still: it freezes, sees that, and thaws.
            raise _not_frozen(mount_point, answer)
        log.info("froze %s", mount_point)
        try:
            yield
        finally:
            end = _thawed(guard, mount_point)
            log.info("%s: %s", mount_point, end)
        if end != _AS_ASKED:
            raise FreezeFailed(
                f"{mount_point} did not stay frozen",
                expected=f"frozen until the snapshot began, {limit_s:.0f} s at most",
                found=end,
                remedy="That snapshot is marked unusable; run again",
            )


def _in_container() -> bool:
    """Return whether killing one process, the first of its namespace, kills all that we start."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino != _HOST_PIDS
    except FileNotFoundError:  # a kernel without such namespaces
        return False


def _check_can_freeze(mount_point: Path) -> None:
    if _in_container():
        raise FreezeFailed(
            f"{mount_point} is not frozen from within a container",
            expected="a process of the host: one of a container that is killed thaws nothing",
            remedy="Leave freeze off: what is published is flushed before the snapshot anyway",
        )
    under = volume_under(mount_point)
    if under.mount_point != str(mount_point.resolve()):
        raise FreezeFailed(f"{mount_point} is no mount point", expected=under.mount_point)
    if under.may_be_root_fs:
        raise FreezeFailed(
            f"{mount_point} is not frozen, since it may be the root file system",
            expected="a volume of its own for the data, mounted as a whole",
            found=f"{under.device}, of which {under.subfolder} is mounted",
            remedy="Leave freeze off: what is published is flushed before the snapshot anyway",
        )
    if under.file_system not in _FILE_SYSTEMS:
        raise FreezeFailed(
            f"{mount_point} cannot be frozen",
            expected=" or ".join(_FILE_SYSTEMS),
            found=under.file_system,
            remedy="Leave freeze off",
        )
    if os.geteuid() != 0:
        raise FreezeFailed(
            f"{mount_point} cannot be frozen",
            expected="root",
            found=f"user {os.geteuid()}",
            remedy="Leave freeze off, or run this stage as root",
        )


def _not_frozen(mount_point: Path, answer: str) -> FreezeFailed:
    word, _, number = answer.partition(" ")
    found = os.strerror(int(number)) if word == "failed" else answer or "no answer from its guard"
    remedy = "Leave freeze off"
    if word == "failed" and int(number) == errno.EBUSY:
        found, remedy = "it is frozen already", "Look for who froze it; fsfreeze -u thaws it"
    return FreezeFailed(f"{mount_point} could not be frozen", found=found, remedy=remedy)


def _thawed(guard: subprocess.Popen[bytes], mount_point: Path) -> str:
    """Have it thawed and return how it ended, in the guard's words or in our own."""
    assert guard.stdin is not None
    assert guard.stdout is not None
    try:
        guard.stdin.write(b"thaw\n")
    except BrokenPipeError:
        log.info("the guard of %s has ended", mount_point)
    end = _line(guard.stdout, _ANSWER_S)
    return end if end.startswith("thawed") else _thaw_ourselves(mount_point)


def _thaw_ourselves(mount_point: Path) -> str:
    """Thaw what a guard that was killed left; it was frozen all the time if that succeeds."""
    folder = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(folder, freeze_guard.FITHAW, 0)
    except OSError as error:
        return f"its guard died, and {os.strerror(error.errno or 0).lower()}"
    finally:
        os.close(folder)
    return _AS_ASKED


def _line(pipe: IO[bytes], wait_s: float) -> str:
    """Return the guard's next line; empty when it ended or does not answer in time."""
    if not select.select([pipe], [], [], wait_s)[0]:
        return ""
    return pipe.readline().decode().strip()
