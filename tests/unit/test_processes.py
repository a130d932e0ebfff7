"""Who lives: a wrong "dead" gives one dataset two owners, so doubt means alive."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support import children

from imagenet_etl import processes
from imagenet_etl.processes import ProcessId, this_process

WHO = """
    import json, sys
    from imagenet_etl.processes import this_process
    print(json.dumps(this_process().to_dict()), flush=True)
    sys.stdin.read()
"""


def test_this_process_is_alive_and_always_the_same():
    me = this_process()
    assert me == this_process() == ProcessId(**me.to_dict())
    assert me.pid == os.getpid()
    assert me.is_visible()
    assert not me.is_known_dead()


def test_a_child_is_alive_until_it_is_killed():
    with children.python(WHO) as child:
        who = ProcessId(**json.loads(children.told(child)))
        assert who.pid == child.pid
        assert not who.is_known_dead()
        child.kill()
        assert children.wait_until(lambda: not children.is_running(child.pid), 5)
        assert who.is_known_dead()  # a zombie still
        child.wait()
        assert who.is_known_dead()


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"namespace": "another boot pid:[1]"}])
def test_who_cannot_be_seen_is_not_known_to_be_dead(change):
    stranger = replace(this_process(), pid=2**22 + 1, **change)
    assert not stranger.is_visible()
    assert not stranger.is_known_dead()


def test_two_machines_of_one_name_are_told_apart():
    # The first pid namespace has the same number on every machine.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert boot in this_process().namespace
    assert str(Path("/proc/self/ns/pid").readlink()) in this_process().namespace


def test_a_reused_pid_is_another_process():
    me = this_process()
    assert replace(me, started=me.started - 1).is_known_dead()


def test_a_process_whose_details_are_hidden_is_not_known_to_be_dead(monkeypatch):
    real = Path.read_text

    def hidden(path: Path, *args: object) -> str:
        if path.name == "stat":
            raise FileNotFoundError(path)
        return real(path)

    me = this_process()
    monkeypatch.setattr(Path, "read_text", hidden)
    assert not me.is_known_dead()
    assert not replace(me, started=me.started - 1).is_known_dead()
    assert replace(me, pid=2**22 + 1).is_known_dead()


def test_a_process_of_another_user_is_not_known_to_be_dead(monkeypatch):
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    me = this_process()
    monkeypatch.setattr(os, "kill", refuse)
    assert not me.is_known_dead()


def test_a_command_with_spaces_and_brackets_in_its_name_is_read_rightly(tmp_path):
    python = tmp_path / "a) R 1 (b"
    python.symlink_to("/bin/sleep")
    child = subprocess.Popen([python, "60"])
    try:
        assert children.wait_until(
            lambda: "a) R 1 (b" in Path(f"/proc/{child.pid}/stat").read_text(), 5
        )
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        who = replace(this_process(), pid=child.pid, started=int(fields[19]))
        assert not who.is_known_dead()
    finally:
        child.kill()
        child.wait()
    assert who.is_known_dead()


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 4), ("200000 100000", 2), ("50000 100000", 1),
                            ("150000 100000", 2), ("800000 100000", 4)],
)  # fmt: skip
def test_a_containers_limit_counts_when_cores_are_counted(tmp_path, monkeypatch, quota, expected):
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(processes, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert processes.cores() == expected


def test_without_a_limit_all_cores_count(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_QUOTA", tmp_path / "none")
    assert processes.cores() == len(processes.os.sched_getaffinity(0))
