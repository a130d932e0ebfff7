"""Files that are removed again are seen, too."""

import sys
from pathlib import Path

import pytest
from benchmarks.measure import Step, run
from benchmarks.traced import can_trace, read_traces, traced

_LINES = """\
openat(AT_FDCWD</home>, "/data/staged", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0666) = 3</data/staged>
write(3</data/staged>, ""..., 100) = 100
pwrite64(3</data/staged>, ""..., 20, 0) = 20
openat(AT_FDCWD</data>, "again", O_RDWR|O_CREAT, 0666) = 4</data/again>
openat(AT_FDCWD</data>, "again", O_RDWR|O_CREAT, 0666) = 4</data/again>
openat(AT_FDCWD</data>, "there", O_RDONLY|O_CLOEXEC) = 4</data/there>
openat(AT_FDCWD</data>, "taken", O_WRONLY|O_CREAT|O_EXCL, 0666) = -1 EEXIST (File exists)
openat(AT_FDCWD</data>, "/tmp/other", O_WRONLY|O_CREAT, 0666) = 5</tmp/other>
write(5</tmp/other>, ""..., 7) = 7
write(1<pipe:[123]>, ""..., 7) = 7
copy_file_range(3</data/staged>, NULL, 4</data/again>, NULL, 5000, 0) = 3000
link("/data/staged", "/data/final_00001.rec") = 0
rename("/data/again", "/data/taken") = -1 EACCES (Permission denied)
"""


def kind(path: str) -> str:
    return "shards" if path.endswith(".rec") else ""


def test_traces_are_read_as_strace_writes_them(tmp_path: Path) -> None:
    # Each process has a file of its own: a name may come before what is named.
    (tmp_path / "trace.2").write_text(_LINES)
    (tmp_path / "trace.1").write_text('rename("/data/again", "/data/b.rec") = 0\n')
    made = read_traces(tmp_path, Path("/data"), kind)
    assert made.files == {"shards": 2}
    assert made.named == {"shards": 2}
    assert made.bytes == 100 + 20 + 3000


@pytest.mark.skipif(not can_trace(), reason="strace is missing or not allowed")
def test_what_a_command_and_its_children_remove_is_seen(tmp_path: Path) -> None:
    traces, data = tmp_path / "traces", tmp_path / "data"
    traces.mkdir()
    data.mkdir()
    script = (
        "import os, subprocess; open('gone', 'w').write('four'); os.unlink('gone');"
        "open('staged', 'w').write('12');"
        "os.rename(os.path.abspath('staged'), os.path.abspath('left.rec'));"
        "subprocess.run(['sh', '-c', 'echo 123 >child; rm child'], check=True)"
    )
    run([traced(Step([sys.executable, "-c", script], data), traces)])
    made = read_traces(traces, data.resolve(), kind)
    assert made.files == {"": 2, "shards": 1}
    assert made.named == {"shards": 1}
    assert made.bytes == 4 + 2 + 4
    assert [path.name for path in data.iterdir()] == ["left.rec"]
