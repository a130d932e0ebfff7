"""The worker pool: it never waits for ever and never leaves a process behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from typing import Any

import pytest
from tests.support import children

from imagenet_etl import pool as pool_module
from imagenet_etl.errors import BadArchive, TransientError, WorkerDied, WorkerStalled
from imagenet_etl.pool import _READY, WorkerPool, workers_ready

WORKER = "tests.support.pool_echo_worker"
DEATH_DEADLINE_S = 5.0


def open_pool(workers: int = 1, **options: Any) -> WorkerPool:
    return WorkerPool(WORKER, workers, {"greeting": "hello"}, **options)


def job(do: str, **details: Any) -> dict[str, Any]:
    return {"name": f"segment {details.get('number', 0)}", "do": do, **details}


def run(pool: WorkerPool, *jobs: dict[str, Any], on_progress=None, on_tick=None) -> list[Any]:
    return list(pool.run(iter(jobs), on_progress or (lambda *_: None), on_tick or (lambda: None)))


@pytest.fixture(autouse=True)
def no_process_is_left(monkeypatch):
    started: list[int] = []
    real = WorkerPool._start

    def start(pool: WorkerPool) -> None:
        real(pool)
        started.append(pool.pids[-1])

    monkeypatch.setattr(WorkerPool, "_start", start)
    yield
    assert [pid for pid in started if children.is_running(pid)] == []


def test_every_job_gets_its_result():
    jobs = [job("echo", say=number, number=number) for number in range(20)]
    with open_pool(2) as pool:
        results = run(pool, *jobs)
        assert len(pool.pids) == 2
    assert sorted(done["say"] for done, _ in results) == list(range(20))
    assert all(result["said"] == done["say"] for done, result in results)
    assert all(result["init"] == {"greeting": "hello"} for _, result in results)
    assert {result["pid"] for _, result in results} <= set(pool.pids)


def test_jobs_are_taken_one_by_one_as_workers_become_free():
    taken: list[int] = []

    def jobs():
        for number in range(6):
            taken.append(number)
            yield job("echo", say=number)

    with open_pool(2) as pool:
        results = pool.run(jobs(), lambda *_: None, lambda: None)
        next(results)
        assert len(taken) <= 4
        assert len(list(results)) == 5


def test_a_pool_can_run_twice_and_without_jobs():
    with open_pool() as pool:
        assert run(pool) == []
        assert run(pool, job("echo", say="a"))[0][1]["said"] == "a"
        assert run(pool, job("echo", say="b"))[0][1]["said"] == "b"


def test_progress_is_told_in_order_and_names_its_job():
    told: list[tuple[str, int]] = []
    with open_pool() as pool:
        results = run(
            pool,
            job("count", to=50, number=7),
            on_progress=lambda done, message: told.append((done["name"], message["number"])),
        )
    assert told == [("segment 7", number) for number in range(50)]
    assert results[0][1] == {"counted": 50}


def test_a_large_result_crosses_the_pipe():
    text = "ä" * 300_000
    with open_pool() as pool:
        assert run(pool, job("echo", say=text))[0][1]["said"] == text


def test_a_typed_error_crosses_the_pipe_whole():
    with open_pool() as pool, pytest.raises(BadArchive) as caught:
        run(pool, job("refuse"))
    assert str(caught.value) == "train.tar is cut off: expected 10 bytes, found 9. Get it again"


def test_a_defect_in_a_worker_names_job_and_exit_code(capfd):
    with open_pool() as pool, pytest.raises(WorkerDied, match=r"segment 3 .*exit code 1\."):
        run(pool, job("crash", number=3))
    assert "ValueError: a defect" in capfd.readouterr().err


def test_a_worker_that_exits_in_silence_names_job_and_exit_code():
    with open_pool() as pool, pytest.raises(WorkerDied, match=r"segment 4 .*exit code 17\."):
        run(pool, job("exit", code=17, number=4))


def test_a_killed_worker_is_noticed_within_seconds():
    killed_at: list[float] = []

    def kill(_: Any, message: dict[str, Any]) -> None:
        killed_at.append(time.monotonic())
        os.kill(message["pid"], signal.SIGKILL)

    with open_pool(2) as pool:
        with pytest.raises(WorkerDied, match=r"segment 5 .*killed by signal 9 \(out of memory\?\)"):
            run(pool, job("echo"), job("hang", number=5), on_progress=kill)
        assert time.monotonic() - killed_at[0] < DEATH_DEADLINE_S
    assert issubclass(WorkerDied, TransientError)


def test_a_worker_killed_in_mid_answer_is_noticed_within_seconds():
    with open_pool() as pool:
        start = time.monotonic()
        with pytest.raises(WorkerDied, match=r"segment 6 .*killed by signal 9"):
            run(pool, job("die in mid-word", number=6))
        assert time.monotonic() - start < DEATH_DEADLINE_S


def test_a_worker_that_dies_before_its_first_job_is_noticed():
    with open_pool() as pool:
        os.kill(pool.pids[0], signal.SIGKILL)
        with pytest.raises(WorkerDied, match="segment 1"):
            run(pool, job("echo", number=1))


def test_a_worker_that_died_while_idle_is_noticed_when_it_gets_a_job():
    def kill(_: Any, message: dict[str, Any]) -> None:
        os.kill(pool.pids[0], signal.SIGKILL)
        assert children.wait_until(pool._workers[0].process.poll, DEATH_DEADLINE_S)

    with open_pool() as pool:
        run(pool, job("echo"))
        kill(None, {})
        with pytest.raises(WorkerDied, match="segment 8"):
            run(pool, job("echo", number=8))


def test_a_worker_that_goes_on_without_its_pipe_is_ended(monkeypatch):
    monkeypatch.setattr(pool_module, "_STOP_GRACE_S", 0.2)
    with open_pool() as pool, pytest.raises(WorkerDied, match="segment 2"):
        run(pool, job("close stdout", number=2))


@pytest.mark.parametrize("do", ["freeze", "hang"])
def test_a_silent_worker_is_stalled(do, monkeypatch):
    monkeypatch.setattr(pool_module, "_TICK_S", 0.05)
    silence = pytest.raises(WorkerStalled, match=r"segment 9 .*no sign of life")
    with silence, open_pool(stall_s=0.5) as pool:
        run(pool, job(do, number=9))


def test_a_stalled_worker_is_noticed_beside_a_talkative_one():
    with pytest.raises(WorkerStalled, match="segment 2"), open_pool(2, stall_s=3.0) as pool:
        run(pool, job("chatter", number=1), job("freeze", number=2))


def test_a_worker_that_tells_progress_is_not_stalled(monkeypatch):
    monkeypatch.setattr(pool_module, "_TICK_S", 0.05)
    started = time.monotonic()

    def tick() -> None:
        if time.monotonic() - started > 4.0:
            raise InterruptedError

    with open_pool(stall_s=3.0) as pool:
        run(pool, job("echo"))
        started = time.monotonic()
        with pytest.raises(InterruptedError):
            run(pool, job("chatter"), on_tick=tick)


def test_answers_that_came_while_the_caller_was_busy_are_no_stall():
    with open_pool(2, stall_s=3.0) as pool:
        run(pool, job("echo"), job("echo"))
        answers = pool.run((job("echo") for _ in range(2)), lambda *_: None, lambda: None)
        next(answers)
        time.sleep(3.1)
        assert len(list(answers)) == 1


def test_a_tick_may_stop_everything(monkeypatch):
    monkeypatch.setattr(pool_module, "_TICK_S", 0.05)
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 3:
            raise InterruptedError("the lease is lost")

    with pytest.raises(InterruptedError, match="the lease is lost"), open_pool() as pool:
        run(pool, job("hang"), on_tick=tick)


def test_a_block_left_in_the_middle_leaves_no_process():
    with open_pool(2) as pool:
        for _ in pool.run(iter([job("echo"), job("hang"), job("hang")]), print, lambda: None):
            break
    assert not any(children.is_running(pid) for pid in pool.pids)


def test_a_block_left_with_a_frozen_worker_leaves_no_process(monkeypatch):
    monkeypatch.setattr(pool_module, "_STOP_GRACE_S", 0.2)
    with open_pool() as pool:
        run(pool, job("echo"))
        os.kill(pool.pids[0], signal.SIGSTOP)
    assert not children.is_running(pool.pids[0])


def test_a_pool_that_cannot_start_all_its_workers_leaves_none(monkeypatch):
    starts: list[int] = []
    real = WorkerPool._start

    def start(pool: WorkerPool) -> None:
        if starts:
            raise BlockingIOError("no more processes")
        real(pool)
        starts.append(pool.pids[0])

    monkeypatch.setattr(WorkerPool, "_start", start)
    with pytest.raises(BlockingIOError), open_pool(2):
        pass
    assert not children.is_running(starts[0])


def test_output_of_a_worker_does_not_disturb_the_protocol(capfd):
    with open_pool() as pool:
        assert run(pool, job("print"))[0][1] == {"said": "the answer"}
    err = capfd.readouterr().err
    assert "no answer of mine" in err
    assert "nor of my child" in err


def test_output_of_a_library_at_import_does_not_disturb_the_protocol(monkeypatch, caplog):
    monkeypatch.setenv("ECHO_NOISE_AT_IMPORT", "yes")
    with open_pool() as pool:
        assert run(pool, job("echo", say="hi"))[0][1]["said"] == "hi"
    assert "a library greets its users" in caplog.text


def test_ctrl_c_is_left_to_the_parent():
    with open_pool() as pool:
        run(pool, job("echo"))
        os.kill(pool.pids[0], signal.SIGINT)
        assert run(pool, job("echo", say="still here"))[0][1]["said"] == "still here"


def test_a_worker_imports_nothing_from_the_folder_it_is_started_in(tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("raise ImportError('the wrong queue')")
    monkeypatch.chdir(tmp_path)
    with open_pool() as pool:
        path = run(pool, job("echo"))[0][1]["path"]
    assert str(tmp_path) not in path


def test_a_pool_works_from_a_thread():
    results: list[Any] = []

    def work() -> None:
        with open_pool() as pool:
            results.extend(run(pool, job("echo", say="from a thread")))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results[0][1]["said"] == "from a thread"


def _work_in_daemon(answers: Any) -> None:
    with open_pool() as pool:
        answers.put(run(pool, job("echo", say="from a daemon"))[0][1]["said"])


def test_a_pool_works_from_a_daemonic_process():
    """Celery's workers are daemonic and may have no ``multiprocessing`` children."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=_work_in_daemon, args=(answers,), daemon=True)
    process.start()
    assert answers.get(timeout=30) == "from a daemon"
    process.join()
    assert process.exitcode == 0


PARENT = """
    import sys
    from imagenet_etl.pool import _READY, WorkerPool, workers_ready
    with WorkerPool("tests.support.pool_echo_worker", 2, {}) as pool:
        jobs = iter([{"name": "a", "do": sys.argv[1]}, {"name": "b", "do": sys.argv[1]}])
        said = []
        def told(job, message):
            said.append(message["pid"])
            if len(set(said)) == 2:
                print(*set(said), flush=True)
                said.extend([0, 1, 2])
        list(pool.run(jobs, told, lambda: None))
"""


@pytest.mark.parametrize("do", ["hang", "chatter"])
def test_workers_of_a_killed_parent_end_within_seconds(do):
    with children.python(PARENT, do) as parent:
        workers = [int(pid) for pid in children.told(parent).split()]
        assert all(children.is_running(pid) for pid in workers)
        parent.kill()
        parent.wait()
        assert children.wait_until(
            lambda: not any(children.is_running(pid) for pid in workers), DEATH_DEADLINE_S
        )


def test_workers_that_were_made_ready_are_used_and_the_others_end():
    with workers_ready(WORKER, 3):
        ready = [process.pid for process in _READY[WORKER]]
        with open_pool(2) as pool:
            assert len(set(pool.pids) & set(ready)) == 2
            assert run(pool, job("echo", say="warm"))[0][1]["said"] == "warm"
    assert _READY == {}
    assert not any(children.is_running(pid) for pid in ready)


def test_workers_that_were_made_ready_end_when_the_block_fails():
    with pytest.raises(KeyboardInterrupt), workers_ready(WORKER, 2):
        ready = [process.pid for process in _READY[WORKER]]
        raise KeyboardInterrupt
    assert not any(children.is_running(pid) for pid in ready)
