"""A dedicated worker keeps what its jobs leave, can ask back, and is lost with all of it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.errors import Cancelled, Internal, InvalidMedia, Reason
from services.gateway.request_fields import IMAGE
from services.isolation.dedicated import DedicatedWorker
from services.isolation.pool import Loss, Nursery, WorkerLost
from services.isolation.wire import Limits
from tests.conftest import wait_until as until
from tests.isolation import jobs

CPU_S = 30.0


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    forking = Nursery(("tests.isolation.jobs",), Limits(memory_bytes=64 << 20, jobs=2))
    yield forking
    forking.close()


@pytest.fixture
def worker(nursery: Nursery) -> Iterator[DedicatedWorker]:
    opened = dedicated(nursery)
    yield opened
    opened.end()


def dedicated(nursery: Nursery, silence_s: float = 60.0, **answers: Any) -> DedicatedWorker:
    return DedicatedWorker(nursery, silence_s=silence_s, answers=answers)


def test_what_a_job_leaves_the_next_one_finds(nursery: Nursery, worker: DedicatedWorker) -> None:
    other = dedicated(nursery)
    counts = [each.ask(jobs.counted, cpu_s=CPU_S) for each in (worker, worker, other, worker)]
    assert counts == [1, 2, 1, 3]  # it does not make way after its jobs, as those of pools do
    assert (worker.jobs, other.jobs) == (3, 1)
    other.end()


def test_a_job_can_ask_back(nursery: Nursery) -> None:
    def refused() -> None:
        raise InvalidMedia(Reason.IMAGE_CORRUPT, "the image is no good", field=IMAGE)

    worker = dedicated(nursery, double=lambda value: 2 * value, refused=refused)
    assert worker.ask(jobs.asked, "double", b"ab", cpu_s=CPU_S) == b"abab"
    with pytest.raises(InvalidMedia) as caught:
        worker.ask(jobs.asked, "refused", cpu_s=CPU_S)
    assert (caught.value.message, caught.value.field) == ("the image is no good", IMAGE)
    assert worker.ask(jobs.asked, "double", 4, cpu_s=CPU_S) == 8
    worker.end()


@pytest.mark.parametrize(
    ("job", "args"),
    [
        (jobs.asked, ("another",)),
        (jobs.asked, ("answer", "too", "many")),
        (jobs.asked, ("answer", -1)),
        (jobs.asked_strangely, ()),
    ],
)
def test_what_no_job_of_ours_asks_ends_it(
    nursery: Nursery, job: Callable[..., object], args: tuple[object, ...]
) -> None:
    worker = dedicated(nursery, answer=lambda length: bytes(length))
    with pytest.raises(WorkerLost):
        worker.ask(job, *args, cpu_s=CPU_S)
    worker.end()


@pytest.mark.parametrize(
    ("job", "args", "cpu_s", "loss"),
    [
        (jobs.crashed, ("here",), CPU_S, Loss.CRASHED),
        (jobs.spun, (), 0.05, Loss.CPU),
        (jobs.grown, (1 << 30,), CPU_S, Loss.MEMORY),
    ],
)
def test_excess_is_told(
    worker: DedicatedWorker, job: Callable[..., object], args: Any, cpu_s: float, loss: Loss
) -> None:
    with pytest.raises(WorkerLost) as caught:
        worker.ask(job, *args, cpu_s=cpu_s)
    assert (caught.value.loss, caught.value.orphaned) == (loss, False)


def test_a_silent_worker_is_given_up(nursery: Nursery, tmp_path: Path) -> None:
    worker = dedicated(nursery, silence_s=0.2)
    with pytest.raises(WorkerLost) as caught:
        worker.ask(jobs.slept, str(tmp_path / "started"), cpu_s=CPU_S)
    assert caught.value.loss is Loss.TIME
    worker.end()


def test_a_fault_of_ours_is_internal(worker: DedicatedWorker) -> None:
    with pytest.raises(Internal):
        worker.ask(jobs.failed, cpu_s=CPU_S)


async def test_it_can_be_ended_from_elsewhere(worker: DedicatedWorker, tmp_path: Path) -> None:
    started, ends = tmp_path / "started", []

    def wait() -> None:
        try:
            worker.ask(jobs.slept, str(started), cpu_s=CPU_S)
        except Exception as error:
            ends.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    await until(started.exists)
    worker.end()
    await until(lambda: bool(ends))
    thread.join()
    assert isinstance(ends[0], Cancelled)
    with pytest.raises(Cancelled):
        worker.ask(jobs.counted, cpu_s=CPU_S)


def test_with_the_zygote_gone_another_is_asked(nursery: Nursery, worker: DedicatedWorker) -> None:
    assert worker.ask(jobs.counted, cpu_s=CPU_S) == 1
    nursery._process.kill()  # type: ignore[union-attr]
    nursery._process.wait()  # type: ignore[union-attr]
    with pytest.raises(WorkerLost) as caught:
        worker.ask(jobs.counted, cpu_s=CPU_S)
    assert caught.value.orphaned
    assert worker.ask(jobs.counted, cpu_s=CPU_S) == 1


def test_bytes_can_be_handed_over(worker: DedicatedWorker) -> None:
    value, content = worker.ask(jobs.handed_over, 3 << 20, cpu_s=CPU_S)
    assert value == {"length": 3 << 20}
    assert content[:] == b"ab" * (3 << 19)
    content[:2] = b"cd"  # ours alone
    assert worker.ask(jobs.handed_over, 4, cpu_s=CPU_S)[1][:] == b"abab"
    assert content[:4] == b"cdab"


@pytest.mark.parametrize("job", [jobs.handed_over_unsealed, jobs.handed_over_too_few])
def test_bytes_that_could_go_away_are_not_looked_at(
    worker: DedicatedWorker, job: Callable[..., object]
) -> None:
    with pytest.raises(WorkerLost):
        worker.ask(job, cpu_s=CPU_S)
