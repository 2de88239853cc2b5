"""The host of the real Ray, told by a supervisor: its start times out once, then succeeds."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from ray.exceptions import GetTimeoutError

from services.local import processes
from services.local.health import check
from services.local.processes import MARK_VARIABLE
from services.local.serve_host import StillProcesses, start_timed_out
from services.local.state import Phase, StackConfig, StackFolder, StackState
from services.local.supervisor import Parts, Supervisor

# The host itself, but the first time Ray's node never finds itself registered, and a clock that
# makes half a minute of each look spares the test the wait.
_LATE_ONCE = """
import itertools, sys, time, types
from pathlib import Path

flag = Path(sys.argv.pop(1))
if not flag.exists():
    flag.touch()
    import ray._private.node, ray._private.services

    def absent(*_):
        raise RuntimeError("no such node")

    ray._private.services.get_node = absent
    ticks = itertools.count(step=31)
    late = {**vars(time), "monotonic": lambda: next(ticks)}
    ray._private.node.time = types.SimpleNamespace(**late)

from services.local import serve_host
serve_host.main()
"""


@pytest.mark.parametrize(
    ("error", "is_timeout"),
    [
        (Exception("The current node timed out during startup. This could happen because"), True),
        (RuntimeError("Timed out waiting for file gcs_server_port"), True),
        (TimeoutError("waited for 60 s"), True),
        (GetTimeoutError("Get timed out"), True),
        (ValueError("no such checkpoint"), False),
        (PermissionError("read-only file system"), False),
    ],
)
def test_only_a_timeout_counts_as_one(error: Exception, is_timeout: bool) -> None:
    assert start_timed_out(error) is is_timeout


def test_what_a_signal_stopped_for_good_is_ended() -> None:
    sleep = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    with (
        subprocess.Popen(sleep, stdout=subprocess.PIPE) as still,
        subprocess.Popen(sleep, stdout=subprocess.PIPE) as well,
    ):
        try:
            for child in (still, well):
                assert child.stdout is not None
                assert child.stdout.readline() == b"up\n"
            now = [0.0]
            watch = StillProcesses(every_s=5.0, clock=lambda: now[0])

            def look() -> None:
                now[0] += 5.0
                watch.look()

            def stop() -> None:
                still.send_signal(signal.SIGSTOP)
                while not processes.stopped(psutil.Process(still.pid)):
                    assert still.poll() is None

            stop()
            look()
            look()
            watch.look()  # too early to count
            still.send_signal(signal.SIGCONT)
            while processes.stopped(psutil.Process(still.pid)):
                assert still.poll() is None
            look()
            stop()  # counted anew
            look()
            look()
            assert still.poll() is None
            look()
            assert still.wait(60) == -signal.SIGKILL
            assert well.poll() is None
        finally:
            still.kill()
            well.kill()


@pytest.mark.serve
async def test_a_ray_whose_start_timed_out_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(MARK_VARIABLE, raising=False)
    folder = StackFolder(tmp_path, "late")
    folder.make()
    fake = {"engine": "fake"}
    config = StackConfig("late", planner=fake, segmenter=fake, port=0, metrics_port=0)
    mark = f"late-{os.getpid()}"
    states: list[StackState] = []
    ready = asyncio.Event()

    def on_change(state: StackState) -> None:
        states.append(state)
        if state.phase is Phase.READY:
            ready.set()

    parts = Parts(serve=("-c", _LATE_ONCE, str(tmp_path / "tried")))
    supervisor = Supervisor(folder, config, mark, on_change, parts)
    life = asyncio.create_task(supervisor.run())
    became = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({life, became}, timeout=200, return_when=asyncio.FIRST_COMPLETED)
        log = folder.serve_log.read_text(errors="replace")
        assert became.done(), f"{states[-1].error}\n{log}"
        assert "The current node timed out during startup" in log
        assert "Ray's start timed out; trying once more" in [state.stage for state in states]
        assert await asyncio.to_thread(check, states[-1].addresses["gateway"]) == "serving"
        names = [process_name(ref) for ref in processes.marked(mark)]
        assert (names.count("raylet"), names.count("gcs_server")) == (1, 1)
    finally:
        became.cancel()
        if not life.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await life
    assert not processes.marked(mark)


def process_name(ref: processes.ProcessRef) -> str:
    process = ref.resolve()
    return process.name() if process is not None else ""
