"""What tests of several services share: recorded metrics, waiting, a clock that can be put forward.

With pytest-xdist (`make test`) everything that needs a Ray or a stack runs in one worker, since two
of them would be too much for a small machine; any other module stays in one piece.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from services.replica.metrics import RecordedMetrics
from tests.faults_of_ours import GatewayWatch, tracebacks

Until = Callable[[Callable[[], object]], Awaitable[None]]

# Far more than any condition needs; a busy machine is slow, and a test that hangs is ended anyway.
PATIENCE_S = 120.0


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without the garbage collector: what is imported and collected stays to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        # So that no later pass goes over it, either.
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The slowest begin first, so that at the end neither worker is left alone with one.
    items.sort(key=lambda item: (not needs_ray(item.nodeid), not _marked(item.nodeid, "slow")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give out modules, those that need a Ray as one (xdist's groups do nothing in pytest 9.2)."""
    from xdist.scheduler import LoadScopeScheduling

    class ModuleScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "ray" if needs_ray(nodeid) else nodeid.partition("::")[0]

    return ModuleScheduling(config, log)


def needs_ray(nodeid: str) -> bool:
    """Whether the test's module has any test that is marked `serve`."""
    return _marked(nodeid, "serve")


def _marked(nodeid: str, mark: str) -> bool:
    return f"pytest.mark.{mark}" in _source(nodeid.partition("::")[0])


@cache
def _source(module: str) -> str:
    return (Path(__file__).parents[1] / module).read_text(encoding="utf-8")


_GATEWAYS = GatewayWatch()


@pytest.fixture(autouse=True)
def _nothing_of_ours_breaks(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    _GATEWAYS.install()
    _GATEWAYS.faults()
    yield
    records = [
        record for when in ("setup", "call", "teardown") for record in caplog.get_records(when)
    ]
    faults = [*_GATEWAYS.faults(), *tracebacks(records)]
    if not request.node.get_closest_marker("breaks"):
        assert not faults, "\n".join(faults)


@pytest.fixture
def metrics() -> RecordedMetrics:
    return RecordedMetrics()


async def wait_until(holds: Callable[[], object], every_s: float = 0.002) -> None:
    """Wait for a condition that other tasks, threads or processes make true."""
    # Not `time.monotonic`, which the fixture `clock` puts forward.
    end = time.perf_counter() + PATIENCE_S
    while not holds():
        assert time.perf_counter() < end, "the condition never held"
        await asyncio.sleep(every_s)


@pytest.fixture
def until() -> Until:
    """Waits until a condition holds, `PATIENCE_S` at most."""
    return wait_until


class Clock:
    """`time.monotonic`, and with it the event loop's timers, put forward at will.

    So a deadline expires after an event that the test has seen, however slow the machine.
    """

    def __init__(self) -> None:
        self._real = time.monotonic
        self._ahead = 0.0

    def __call__(self) -> float:
        return self._real() + self._ahead

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self._ahead += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(time, "monotonic", moved)
    return moved
