"""The real local stack with fake engines, from `up` to `down`, killed in between."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from limelight import Client
from services.local import processes
from services.local.state import StackFolder, StackState
from tests.odd.checkpoints import BIAS, changed, dropped
from tests.scraping import scraped

pytestmark = [pytest.mark.serve, pytest.mark.timeout(600)]

Limelight = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Python files named as packages that the stack's processes import."""
    folder = tmp_path_factory.mktemp("home")
    for name in ("psutil", "h2", "torch", "numpy"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} of the current folder')\n")
    return folder


def behind_dead_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with a proxy for everything that does not answer, and no exceptions."""
    kept = {name: value for name, value in environment.items() if not _is_proxy(name)}
    names = [f"{scheme}_proxy" for scheme in ("grpc", "http", "https", "all")]
    return {**kept, **dict.fromkeys((*names, *map(str.upper, names)), "http://127.0.0.1:9")}


def _is_proxy(name: str) -> bool:
    return name.lower().endswith("_proxy")


@pytest.fixture(scope="module")
def limelight(home: Path) -> Iterator[Limelight]:
    """Runs the command in a process of its own, as a shell would whose proxies are all away."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "services.cli.main", *arguments],
            cwd=home,
            env={**behind_dead_proxies(os.environ), "LIMELIGHT_STATE_DIR": str(home / "state")},
            capture_output=True,
            text=True,
            timeout=300,
        )

    yield run
    run("down")


@pytest.fixture
def state(home: Path) -> Callable[[], StackState | None]:
    return StackFolder(home / "state", "default").read


@pytest.fixture(scope="module")
def picture(home: Path) -> Path:
    image = Image.new("RGB", (200, 100), "white")
    ImageDraw.Draw(image).rectangle((20, 30, 59, 79), "red")
    image.save(home / "square.png")
    return home / "square.png"


@pytest.fixture(scope="module")
def up(limelight: Limelight, home: Path) -> subprocess.CompletedProcess[str]:
    """`limelight up`, on a port that is taken; the stack runs until a test ends it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        up = limelight(
            *("up", "--engine", "fake", "--gateways", "2"),
            *("--port", port, "--metrics-port", "0"),
        )
    assert up.returncode == 0, up.stderr
    running = StackFolder(home / "state", "default").read()
    assert running is not None
    assert running.addresses["gateway"] != f"127.0.0.1:{port}"
    return up


def test_a_stack_is_told_asked_and_out_of_reach(
    up: subprocess.CompletedProcess[str],
    limelight: Limelight,
    state: Callable[[], StackState | None],
    home: Path,
    picture: Path,
) -> None:
    running = state()
    assert running is not None
    assert f"at {running.addresses['gateway']}" in up.stderr
    assert "\x1b" not in up.stderr

    again = limelight("up", "--engine", "fake")
    assert again.returncode == 0
    assert "already running" in again.stderr

    status = limelight("status", "--json")
    assert status.returncode == 0, status.stdout
    report = json.loads(status.stdout)
    assert report["versions"]["ray"]
    assert report["phase"] == "ready"
    assert any(sample.name.startswith("ray_") for sample in scraped(report["ray_metrics"]))
    assert f"http://{report['ray_metrics']}/metrics" in limelight("status").stdout

    one = limelight("segment", "square.png", "--phrase", "red square", "--json")
    assert one.returncode == 0, one.stderr
    (instance,) = json.loads(one.stdout)["instances"]
    assert instance["box"] == [20, 30, 60, 80]
    assert coco.decode(instance["mask"])[30:80, 20:60].all()

    lines = [{"id": n, "image": "square.png", "phrases": ["red square"]} for n in range(12)]
    lines.append({"id": "bad", "image": "in.jsonl", "phrases": ["red"]})
    (home / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    many = limelight("batch", "in.jsonl", "--out", "out.jsonl", "--concurrency", "4")
    assert many.returncode == 1
    results = [json.loads(line) for line in (home / "out.jsonl").read_text().splitlines()]
    assert len(results) == 13
    (fault,) = [result["error"] for result in results if "error" in result]
    assert fault["reason"] == "IMAGE_UNSUPPORTED"

    assert _outside_loopback(running) == set()


@pytest.mark.usefixtures("up")
def test_what_is_ended_comes_back_and_a_killed_stack_is_told(
    limelight: Limelight, state: Callable[[], StackState | None], picture: Path
) -> None:
    """The last to use the stack, whose supervisor it kills."""
    first = state()
    assert first is not None
    drained = _drain_under_load(first, state, picture)
    report = json.loads(limelight("status", "--json").stdout)
    gateways = [service for service in report["services"] if "gateway" in service["name"]]
    assert [gateway["health"] for gateway in gateways] == ["serving"] * 2
    assert len({gateway["pid"] for gateway in gateways}) == 2
    assert report["restarts"][drained] == 1
    for address in report["gateway_metrics"].values():
        assert any(sample.name == "limelight_in_flight" for sample in scraped(address))
    first = state()
    assert first is not None
    (raylet,) = [
        ref for ref in processes.marked(first.mark) if psutil.Process(ref.pid).name() == "raylet"
    ]
    os.kill(raylet.pid, signal.SIGKILL)
    until = time.monotonic() + 240
    while (second := state()) is None or second.restarts.get("serve") != 1 or second.stage:
        assert first.supervisor.alive
        assert time.monotonic() < until
        time.sleep(0.2)
    assert second.addresses == first.addresses
    assert second.processes["gateway-2"] == first.processes["gateway-2"]
    again = limelight("segment", "square.png", "--phrase", "red square", "--timeout", "60")
    assert again.returncode == 0, again.stderr
    told = limelight("status").stdout
    assert "Ray Serve ended" in told
    assert f"serve.log (started again: serve 1, {drained} 1)" in told

    os.kill(first.supervisor.pid, signal.SIGKILL)
    assert processes.wait_gone(first.supervisor, 5.0)
    status = limelight("status")
    assert status.returncode == 3
    assert "the last one failed: its supervisor was killed at" in status.stderr
    assert not processes.marked(first.mark)
    failed = json.loads(limelight("status", "--json").stdout)
    assert failed["fault"]["what"] == "its supervisor was killed"


def _drain_under_load(
    before: StackState, state: Callable[[], StackState | None], picture: Path
) -> str:
    """Tell the gateway that is called to end, and see it back without a failed call; its name."""
    over = threading.Event()
    image = picture.read_bytes()
    metrics = {"gateway": "metrics", "gateway-2": "metrics-2"}

    def call_on(_: int) -> int:
        answered = 0
        with Client(before.addresses["gateway"]) as client:
            while not over.is_set():
                answered += len(client.segment(image, phrases=["red square"]).instances)
        return answered

    def until(holds: Callable[[StackState], bool]) -> None:
        end = time.monotonic() + 120
        while (now := state()) is None or not holds(now):
            assert time.monotonic() < end
            time.sleep(0.05)

    def handled(name: str) -> float:
        return sum(
            sample.value
            for sample in scraped(before.addresses[name])
            if sample.name == "limelight_images_total"
        )

    earlier = {name: handled(metrics[name]) for name in metrics}
    with ThreadPoolExecutor(6) as pool:
        callers = [pool.submit(call_on, number) for number in range(6)]
        try:
            end = time.monotonic() + 60
            # Clients of one process share a connection, which came to either gateway by chance.
            while not (called := [n for n in metrics if handled(metrics[n]) > earlier[n]]):
                assert time.monotonic() < end
            old = before.processes[called[0]]
            os.kill(old.pid, signal.SIGTERM)
            assert processes.wait_gone(old, 60)
            until(lambda now: now.processes[called[0]] != old and not now.stage)
        finally:
            over.set()
        assert all(caller.result() for caller in callers)
    return called[0]


def test_foreground_ends_with_ctrl_c(home: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "services.cli.main", "up", "--foreground"),
            *("--engine", "fake", "--port", "0"),
        ],
        env={**os.environ, "LIMELIGHT_STATE_DIR": str(home / "other")},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "ready" in line:
            break
    state = StackFolder(home / "other", "default").read()
    assert state is not None
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stopped" in told
    assert not processes.marked(state.mark)


def test_a_start_that_fails_says_why(limelight: Limelight, home: Path) -> None:
    """Before Ray is started where headers tell, and else in the replica's own words."""
    (home / "empty").mkdir()
    up = limelight("up", "--segmenter-model", "empty", "--name", "broken")
    assert up.returncode == 2
    assert re.match("error: empty has no config.json: it is empty; expected a SAM 3", up.stderr)
    incomplete = changed(dropped(BIAS), home)
    up = limelight("up", "--segmenter-model", incomplete, "--name", "broken")
    assert up.returncode == 1
    assert "end of" in up.stderr
    assert re.search(
        "error: the segmenter did not start: .*CheckpointError: .*checkpoint/model.safetensors: "
        rf"1 of the 432 tensors are missing \({BIAS}\)",
        up.stderr,
    )
    assert limelight("status", "--name", "broken").returncode == 3


def _outside_loopback(state: StackState) -> set[str]:
    """Addresses at which a stack's processes listen to the network."""
    pids = {ref.pid for ref in processes.with_descendants(state.processes.values())}
    return {
        f"{connection.laddr.ip}:{connection.laddr.port}"
        for connection in psutil.net_connections("tcp")
        if connection.pid in pids
        and connection.status == psutil.CONN_LISTEN
        and not connection.laddr.ip.removeprefix("::ffff:").startswith("127.")
        and connection.laddr.ip != "::1"
    }
