import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from loadtest.usage import CLIENT, GATEWAY, REST, Meter, spent
from services.local.processes import ProcessRef, end, with_descendants
from services.local.state import StackConfig, StackState

BURN = "import time\nwhile True:\n    sum(range(1000))"
# A parent with a child named as Ray names an actor.
NAMED = "import subprocess; subprocess.run(['ray::ProxyActor', '-c', %r], executable=%r)"


@pytest.fixture
def state() -> Iterator[StackState]:
    gateway = subprocess.Popen((sys.executable, "-c", BURN))
    serve = subprocess.Popen((sys.executable, "-c", NAMED % (BURN, sys.executable)))
    refs = {"gateway": ProcessRef.of(gateway.pid), "serve": ProcessRef.of(serve.pid)}
    yield StackState(StackConfig(), "", ProcessRef.of(gateway.pid), 0.0, processes=refs)
    end(with_descendants(refs.values()), 0.0)
    gateway.wait()
    serve.wait()


def test_each_process_is_counted_in_its_role(state: StackState) -> None:
    meter = Meter(state)
    before = meter.read()
    deadline = time.monotonic() + 60
    used: dict[str, float] = {}
    while time.monotonic() < deadline:
        used = spent(before, meter.read())
        if used.get(GATEWAY, 0) > 0.1 and used.get("Serve proxy", 0) > 0.1:
            break
        time.sleep(0.05)
    assert used[GATEWAY] > 0.1
    assert used["Serve proxy"] > 0.1
    assert used[REST] < used[GATEWAY] + used["Serve proxy"]
    assert used[CLIENT] >= 0


def test_most_used_comes_first() -> None:
    assert list(spent({"a": 1.0}, {"a": 2.0, "b": 5.0})) == ["b", "a"]
