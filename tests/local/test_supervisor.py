"""A stack's life, with quick stand-ins for Ray Serve and the gateway."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import psutil
import pytest

from services.local import processes, restarts
from services.local.health import check
from services.local.processes import MARK_VARIABLE
from services.local.state import Phase, StackConfig, StackFolder, StackState
from services.local.supervisor import Parts, Supervisor

ROOT = Path(__file__).parents[2]
GATEWAY = ("-m", "tests.local.parts", "gateway")


class Life:
    """A supervisor under way, and every state it went through."""

    def __init__(
        self, folder: StackFolder, how: str, config: StackConfig, gateway: tuple[str, ...]
    ) -> None:
        self.folder = folder
        self.states: list[StackState] = []
        self._changed = asyncio.Event()
        parts = Parts(("-m", "tests.local.parts", "serve", how), gateway)
        self.supervisor = Supervisor(folder, config, f"mark-{os.getpid()}", self._on_change, parts)
        self.task = asyncio.create_task(self.supervisor.run())

    def _on_change(self, state: StackState) -> None:
        self.states.append(state)
        self._changed.set()

    async def until(self, holds: Callable[[StackState], bool]) -> StackState:
        async with asyncio.timeout(120):
            while not (self.states and holds(self.states[-1])):
                await self._changed.wait()
                self._changed.clear()
        return self.states[-1]

    async def end(self) -> StackState:
        os.kill(os.getpid(), signal.SIGTERM)
        return await asyncio.wait_for(self.task, 120)


@asynccontextmanager
async def living(
    tmp_path: Path,
    how: str = "well",
    port: int = 0,
    gateway: tuple[str, ...] = GATEWAY,
    gateways: int = 1,
) -> AsyncIterator[Life]:
    folder = StackFolder(tmp_path, "test")
    folder.make()
    config = StackConfig(name="test", port=port, metrics_port=0, gateways=gateways)
    life = Life(folder, how, config, gateway)
    try:
        yield life
    finally:
        if not life.task.done():
            await life.end()
        assert not processes.marked(f"mark-{os.getpid()}")
        assert not os.path.exists(life.states[-1].ray_dir)  # noqa: ASYNC240


def ready(state: StackState) -> bool:
    return state.phase is Phase.READY


@pytest.mark.slow
async def test_starts_serves_and_ends(tmp_path: Path) -> None:
    async with living(tmp_path, "child") as life:
        state = await life.until(ready)
        assert life.folder.read() == state
        assert state.ready_s is not None
        address = state.addresses["gateway"]
        assert await asyncio.to_thread(check, address) == "serving"
        assert len(processes.marked(state.mark)) == 3
        assert b"a line of Ray's own" in life.folder.serve_log.read_bytes()
        last = await life.end()
        assert last.phase is Phase.STOPPING
        assert life.folder.read() is None
        assert await asyncio.to_thread(check, address) == "unreachable"


async def test_another_port_if_the_preferred_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with living(tmp_path, port=port) as life:
            state = await life.until(ready)
            assert state.addresses["gateway"] != f"127.0.0.1:{port}"


async def test_nothing_of_the_current_folder_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "psutil.py").write_text("open('imported', 'w').close()\nraise SystemExit(9)\n")
    monkeypatch.chdir(here)
    program = "import psutil; exec(open({!r}).read())".format(str(tmp_path / "gateway.py"))
    (tmp_path / "gateway.py").write_text("from tests.local.parts import gateway\ngateway()\n")
    async with living(tmp_path, gateway=("-c", program)) as life:
        await life.until(ready)
    assert sorted(path.name for path in here.iterdir()) == ["psutil.py"]


@pytest.mark.slow
async def test_two_gateways_at_one_address_are_kept_apart(tmp_path: Path) -> None:
    async with living(tmp_path, gateways=2) as life:
        first = await life.until(ready)
        os.kill(first.processes["gateway-2"].pid, signal.SIGKILL)
        again = await life.until(
            lambda state: state.processes["gateway-2"] != first.processes["gateway-2"]
        )
        assert again.restarts == {"gateway-2": 1}
        assert again.fault is not None
        assert again.fault.what == "gateway 2 ended (exit code -9)"
        assert again.fault.log == str(life.folder.gateway_log(2))
        assert again.processes["gateway"] == first.processes["gateway"]
        # The other one answers at the address they share.
        assert await asyncio.to_thread(check, first.addresses["gateway"]) == "serving"


@pytest.mark.slow
async def test_a_gateway_that_stands_still_is_replaced(tmp_path: Path) -> None:
    async with living(tmp_path, gateways=2) as life:
        first = await life.until(ready)
        os.kill(first.processes["gateway-2"].pid, signal.SIGSTOP)
        again = await life.until(
            lambda state: state.processes["gateway-2"] != first.processes["gateway-2"]
        )
        assert again.restarts == {"gateway-2": 1}
        assert "stands still, stopped by a signal" in life.folder.gateway_log(2).read_text()
        # Its health would have told later: three checks, 5 s each.
        assert "did not answer" not in life.folder.gateway_log(2).read_text()


@pytest.mark.slow
async def test_a_gateway_that_dies_comes_back_on_its_port(tmp_path: Path) -> None:
    async with living(tmp_path) as life:
        first = await life.until(ready)
        os.kill(first.processes["gateway"].pid, signal.SIGKILL)
        again = await life.until(
            lambda state: state.processes["gateway"] != first.processes["gateway"]
        )
        assert again.restarts == {"gateway": 1}
        assert again.addresses["gateway"] == first.addresses["gateway"]
        async with grpc.aio.insecure_channel(again.addresses["gateway"]) as channel:
            await asyncio.wait_for(channel.channel_ready(), 20)


@pytest.mark.slow
async def test_models_that_die_come_back_where_they_were(tmp_path: Path) -> None:
    async with living(tmp_path, "child") as life:
        first = await life.until(ready)
        children = psutil.Process(first.processes["serve"].pid).children()
        os.kill(first.processes["serve"].pid, signal.SIGKILL)
        again = await life.until(
            lambda state: state.processes["serve"] != first.processes["serve"] and not state.stage
        )
        assert again.phase is Phase.READY
        assert (again.restarts, again.addresses) == ({"serve": 1}, first.addresses)
        assert again.fault is not None
        assert again.fault.what == "Ray Serve ended (exit code -9)"
        assert again.fault.log == str(life.folder.serve_log)
        assert again.processes["gateway"] == first.processes["gateway"]
        assert not any(child.is_running() for child in children)
        assert life.folder.read() == again


@pytest.mark.slow
async def test_a_part_that_dies_too_often_ends_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "_FIRST_DELAY_S", 0.02)
    async with living(tmp_path, "brief") as life:
        last = await asyncio.wait_for(life.task, 240)
        assert last.phase is Phase.FAILED
        assert last.error == "Ray Serve ended too often (exit code 3)"
        assert last.restarts == {"serve": 5}
        assert life.folder.read() == last


async def test_models_that_do_not_start_end_the_stack(tmp_path: Path) -> None:
    async with living(tmp_path, "die") as life:
        last = await asyncio.wait_for(life.task, 120)
        assert last.phase is Phase.FAILED
        assert last.error == "the models did not start (exit code 7)"
        log = life.folder.serve_log.read_bytes()
        assert b"no such checkpoint" in log
        assert log.count(b"a line of Ray's own") == 1


@pytest.mark.slow
async def test_a_start_that_timed_out_is_tried_once_more(tmp_path: Path) -> None:
    async with living(tmp_path, "late") as life:
        state = await life.until(ready)
        stages = [each.stage for each in life.states]
        again = stages.index("Ray's start timed out; trying once more")
        assert "loading the models" in stages[again:]
        # Serve and gateway; the child that the first try left is gone.
        assert len(processes.marked(state.mark)) == 2
        assert processes.marked(state.mark, "serve") == [state.processes["serve"]]
        assert await asyncio.to_thread(check, state.addresses["gateway"]) == "serving"


@pytest.mark.slow
async def test_a_start_that_times_out_twice_fails(tmp_path: Path) -> None:
    async with living(tmp_path, "never") as life:
        last = await asyncio.wait_for(life.task, 120)
        assert last.phase is Phase.FAILED
        assert last.error == "Ray's start timed out"
        assert life.folder.serve_log.read_bytes().count(b"a line of Ray's own") == 2


async def test_any_other_failure_to_start_is_not_tried_again(tmp_path: Path) -> None:
    async with living(tmp_path, "refuse") as life:
        last = await asyncio.wait_for(life.task, 120)
        assert last.phase is Phase.FAILED
        assert last.error == "Ray did not start: no room"
        assert life.folder.serve_log.read_bytes().count(b"a line of Ray's own") == 1


async def test_a_gateway_that_does_not_start_ends_the_start_of_the_models(tmp_path: Path) -> None:
    async with living(tmp_path, "silent", gateway=("-c", "raise SystemExit(3)")) as life:
        last = await asyncio.wait_for(life.task, 120)
        assert last.error == "the gateway did not start (exit code 3)"
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_can_be_ended_while_it_starts(tmp_path: Path) -> None:
    async with living(tmp_path, "silent") as life:
        await life.until(lambda state: "gateway" in state.addresses)
        last = await life.end()
        assert last.phase is Phase.STOPPING
        assert last.ready_s is None


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mark of one's own; parts import nothing from the current folder by themselves."""
    monkeypatch.delenv(MARK_VARIABLE, raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
