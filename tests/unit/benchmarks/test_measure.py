import signal
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.measure import Cost, Step, StepFailed, forget_pages, run, warm_up
from tests.support.children import wait_until

ROOT = Path(__file__).resolve().parents[3]
MB = 1 << 20


def python(code, folder, **more):
    return Step([sys.executable, "-c", code], folder, **more)


def test_steps_are_run_in_turn_and_their_times_told_apart(tmp_path):
    write = python(
        "open('a', 'w').write('x'); import time; time.sleep(0.2)", tmp_path, name="write"
    )
    read = python("assert open('a').read() == 'x'", tmp_path, name="read")
    cost = run([write, read])
    assert set(cost.steps) == {"write", "read"}
    assert cost.steps["write"] >= 0.2
    assert cost.seconds == pytest.approx(sum(cost.steps.values()))


MEASURE = """
import signal
import subprocess
import sys
import time
from pathlib import Path
from benchmarks.measure import Step, run
child = "x = bytearray(200 << 20)"
parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
steps = [Step([sys.executable, "-c", code], Path.cwd()) for code in (parent, "pass")]
print(run(steps).peak_bytes)
"""


def test_memory_is_that_of_the_largest_process_of_the_tree(tmp_path):
    # Not from here: children inherit the peak of the process that starts them.
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert 200 * MB < int(done.stdout) < 240 * MB


def test_bytes_written_by_children_are_counted(tmp_path):
    script = "dd if=/dev/zero of=a bs=1M count=8 && (dd if=a of=b bs=1M) && rm a"
    cost = run([Step(["bash", "-c", script], tmp_path)])
    if cost.written_bytes == 0:
        pytest.skip("the temporary folder is not on a disk")
    assert 16 * MB <= cost.written_bytes < 17 * MB


def test_time_on_processors_is_that_of_the_whole_tree(tmp_path):
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    parent = (
        "import subprocess, sys, time; time.sleep(0.5);"
        f"subprocess.run([sys.executable, '-c', {busy!r}], check=True)"
    )
    assert run([python(parent, tmp_path)]).cpu_seconds == pytest.approx(0.4, abs=0.15)


def test_watched_processes_are_told_apart(tmp_path):
    worker = "import time; x = bytearray(100 << 20); time.sleep(0.5)  # the-worker"
    parent = (
        "import subprocess, sys; x = bytearray(200 << 20);"
        f"subprocess.run([sys.executable, '-c', {worker!r}], check=True)"
    )
    script = tmp_path / "parent.py"
    script.write_text(parent)
    cost = run([Step([sys.executable, script], tmp_path)], watch="# the-worker")
    assert 100 * MB < cost.workers_peak_bytes < 150 * MB


def test_a_step_that_fails_is_told_with_what_it_printed(tmp_path):
    never = python("open('never', 'w')", tmp_path)
    with pytest.raises(StepFailed, match=r"ended with 3:\nno such thing"):
        run([python("print('no such thing'); raise SystemExit(3)", tmp_path), never])
    assert not (tmp_path / "never").exists()


def test_an_interrupted_measurement_leaves_no_process(tmp_path):
    script = "import os; open('pid', 'w').write(str(os.getpid())); import time; time.sleep(60)"
    code = f"""
import sys
from pathlib import Path
from benchmarks.measure import Step, run
run([Step([sys.executable, "-c", {script!r}], Path.cwd())])
"""
    measuring = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    pid = tmp_path / "pid"
    assert wait_until(lambda: pid.exists() and pid.read_text(), 60)
    measuring.send_signal(signal.SIGINT)
    assert measuring.wait(60) != 0
    assert wait_until(lambda: not Path(f"/proc/{pid.read_text()}").exists(), 60)


def test_costs_add_up_and_peaks_do_not():
    total = Cost(1, 2, 10, 100, {"a": 1}, 5) + Cost(2, 1, 7, 50, {"b": 2}, 6)
    assert total == Cost(3, 3, 10, 150, {"a": 1, "b": 2}, 6)


def resident_pages(path: Path) -> str:
    """Return fincore's count of the pages of a file that are in memory."""
    done = subprocess.run(
        ["fincore", "--noheadings", "--output", "PAGES", path], capture_output=True, text=True
    )
    return done.stdout.strip()


def test_pages_are_forgotten_and_read_again(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(4 * MB))
    try:
        before = resident_pages(path)
    except FileNotFoundError:
        pytest.skip("fincore is not installed")
    forget_pages(path)
    if resident_pages(path) == before:
        pytest.skip("this file system keeps its pages")
    warm_up(path)
    assert resident_pages(path) == before == str(4 * MB // 4096)
