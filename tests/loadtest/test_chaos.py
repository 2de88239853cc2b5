"""The pieces of `make chaos`, without a run of it: finding, halting and limiting, and the table."""

import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from loadtest.chaos import parts
from loadtest.chaos.evidence import NotMet, Pictures, lost_lines
from loadtest.chaos.faults import (
    FAULTS,
    LocalFault,
    killed,
    limited,
    mute_connections,
    still,
)
from loadtest.chaos.report import BEGIN, END, page, rows, seen, write_into
from loadtest.chaos.trials import Trial
from loadtest.generator import Load, Sample
from services.errors import OutOf, Overloaded, Reason
from services.local.processes import ProcessRef
from services.local.state import StackConfig, StackFolder, StackState
from tests.client.stand_in import StandIn, serving

# Writes to the file that it is told, until it may not, and then says so.
_WRITER = """
import sys
print("begun", flush=True)
for line in sys.stdin:
    try:
        with open(sys.argv[1], "w") as file:
            file.write(line)
        print("written", flush=True)
    except OSError as exc:
        print(exc.strerror, flush=True)
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path / "file")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    yield child
    child.kill()
    child.communicate()


@pytest.fixture
def state(process: subprocess.Popen[str]) -> StackState:
    """A stack whose gateway is that process."""
    ref = ProcessRef.of(process.pid)
    return StackState(StackConfig(), "no such mark", ref, 0.0, processes={"gateway": ref})


def status(process: subprocess.Popen[str], wanted: str) -> None:
    """Wait until the process has that status."""
    end = time.perf_counter() + 30
    while psutil.Process(process.pid).status() != wanted:
        assert time.perf_counter() < end
        time.sleep(0.005)


def test_what_stands_still_goes_on(process: subprocess.Popen[str], state: StackState) -> None:
    with still(parts.GATEWAY)(state):
        status(process, psutil.STATUS_STOPPED)
    status(process, psutil.STATUS_SLEEPING)


def test_a_killed_part_is_gone(process: subprocess.Popen[str], state: StackState) -> None:
    with still(parts.GATEWAY)(state), killed(parts.GATEWAY)(state):
        assert process.wait(30) == -signal.SIGKILL
    with pytest.raises(parts.NoSuchPart, match="no gateway runs"):
        parts.find(state, parts.GATEWAY)


def test_a_full_disk_is_felt_and_has_room_again(
    process: subprocess.Popen[str], state: StackState
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None

    def write() -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("a line\n")
        process.stdin.flush()
        return process.stdout.readline()

    assert write() == "written\n"
    with limited(parts.GATEWAY, resource.RLIMIT_FSIZE, lambda _: 0)(state):
        assert write() == "File too large\n"
    assert write() == "written\n"


def test_mute_clients_stay_connected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        with mute_connections(f"{host}:{port}", 5) as connections:
            assert len(connections) == 5
            taken, _ = server.accept()
            with taken:
                taken.settimeout(30)
                assert taken.recv(24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def test_rays_processes_are_told_apart() -> None:
    assert parts.part_of("raylet", ["/somewhere/raylet", "--x"]) == parts.RAYLET
    proxy = "ray::ProxyActor.receive_asgi_messages"
    assert parts.part_of("ray::ProxyActor", [proxy]) == parts.PROXY
    replica = "ray::ServeReplica:segmenter:Segmenter"
    assert parts.part_of("ray::ServeReplica", [replica]) == parts.SEGMENTER
    assert parts.part_of("ray::IDLE", ["ray::IDLE"]) is None
    assert parts.part_of("python", []) is None


def a_trial(*samples: Sample, well_s: float | None = None, well: bool = True) -> Trial:
    fault = LocalFault("it ends", killed(parts.GATEWAY), 0.0, well_s)
    return Trial(fault, Load(20.0, samples), at_s=4.0, well=well)


def test_recovery_is_the_last_call_that_suffered() -> None:
    before = Sample(3.0, 2.5, {}, 1, None)  # slow, and over before the fault
    answered = Sample(5.0, 0.5, {}, 1, None)
    held_up = Sample(12.0, 6.0, {}, 1, None)
    failed = Sample(8.0, 1.0, {}, 0, "SEGMENTER_UNAVAILABLE")
    trial = a_trial(before, answered, held_up, failed)
    assert (trial.lost, trial.slowest_s, trial.recovered_s) == (1, 6.0, 3.0)
    assert not trial.kept
    assert not a_trial(held_up, failed, well_s=3.0).kept, "a call was lost"
    assert a_trial(held_up, well_s=2.0).kept
    assert not a_trial(held_up, well_s=1.9).kept
    assert a_trial(answered, held_up).kept
    assert not a_trial(answered, well=False).kept


def test_the_table_stands_between_its_markers(tmp_path: Path) -> None:
    document = tmp_path / "faults.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    trials = [a_trial(Sample(6.0, 1.5, {}, 1, None))]
    told = rows(trials, {"the clock jumps": "not tried here: no compiler"})
    write_into(document, told, "here")
    text = document.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| fault | promised | seen |\n")
    assert "| it ends | no call fails | 0 of 1 failed, slowest answer 1.5 s |" in text
    assert "old" not in text
    assert text.endswith(f"Seen here.\n{END}\nafter\n")
    write_into(document, told, "here")
    assert document.read_text() == text
    assert page(trials, told, "here").count("data:image/png;base64,iVBOR") == 1
    (tmp_path / "other.md").write_text("nothing")
    with pytest.raises(ValueError, match="lacks"):
        write_into(tmp_path / "other.md", told, "here")


def test_faults_have_names_of_their_own() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)


def test_a_limit_that_nobody_met_is_no_promise_kept() -> None:
    answered = Sample(5.0, 0.5, {}, 1, None)
    met = replace(a_trial(answered), evidence="5 videos met it and got OVERLOADED")
    assert met.kept
    assert seen(met).endswith(", 5 videos met it and got OVERLOADED")
    unmet = replace(a_trial(answered), unmet="videos got 5 × an answer")
    assert not unmet.kept
    assert "videos got 5 × an answer" in seen(unmet)


async def test_evidence_is_what_failed_of_the_limit_and_of_nothing_else(
    state: StackState, tmp_path: Path
) -> None:
    service = StandIn()
    evidence = Pictures()
    evidence._content = b"the stand-in does not look"
    folder = StackFolder(tmp_path, "chaos")
    with serving(service) as address:
        state = replace(state, addresses={"direct": address})
        service.faults = [OutOf("memory")] * 5
        await evidence.during(state)
        assert await evidence.after(state, folder) == (
            "pictures of 33 MB got 5 × OVERLOADED that names it, 15 × an answer"
        )
        await evidence.during(state)
        with pytest.raises(NotMet, match="got 20 × an answer"):
            await evidence.after(state, folder)
        full = Overloaded(Reason.OVERLOADED, "too many calls wait", retry_after_s=1.0)
        service.faults = [OutOf("memory"), full]
        await evidence.during(state)
        with pytest.raises(NotMet, match=r"1 × OVERLOADED \(too many calls wait\)"):
            await evidence.after(state, folder)


def test_a_log_tells_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert lost_lines(path) == ""
    path.write_text("a line\n(3 lines could not be written: there was no room)\n")
    assert lost_lines(path) == "3 lines could not be written: there was no room"
