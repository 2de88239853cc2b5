"""A worker that crashes, hangs or grows costs its own job; the next finds a fresh worker."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.errors import Internal, InvalidMedia, Reason
from services.gateway.request_fields import IMAGE
from services.isolation.pool import Loss, Nursery, WorkerLost, WorkerPool
from services.isolation.wire import Limits
from tests.conftest import wait_until as until
from tests.isolation import jobs

CPU_S = 30.0


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    forking = Nursery(("tests.isolation.jobs",), Limits(memory_bytes=64 << 20, jobs=5))
    yield forking
    forking.close()


@pytest.fixture
def lost() -> list[Loss]:
    return []


@pytest.fixture
async def pool(nursery: Nursery, lost: list[Loss]) -> AsyncIterator[WorkerPool]:
    opened = WorkerPool("tests", nursery, 1, on_loss=lost.append)
    yield opened
    opened.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def loss_of(pool: WorkerPool, job: object, *args: object, cpu_s: float = CPU_S) -> WorkerLost:
    with pytest.raises(WorkerLost) as caught:
        await pool.run(job, *args, cpu_s=cpu_s)  # type: ignore[arg-type]
    return caught.value


async def test_values_come_back_from_another_process(pool: WorkerPool) -> None:
    value = {"bytes": os.urandom(3 << 20), "numbers": (1, 2.5, None, True)}
    assert await pool.run(jobs.echoed, value, cpu_s=CPU_S) == value
    first = await pool.run(jobs.pid, cpu_s=CPU_S)
    assert first != os.getpid()
    assert await pool.run(jobs.pid, cpu_s=CPU_S) == first


async def test_a_worker_makes_way_after_its_jobs(pool: WorkerPool) -> None:
    pids = [await pool.run(jobs.pid, cpu_s=CPU_S) for _ in range(11)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [5, 5, 1]


async def test_a_refusal_comes_back_as_it_was_raised(pool: WorkerPool, lost: list[Loss]) -> None:
    with pytest.raises(InvalidMedia) as caught:
        await pool.run(jobs.refused, cpu_s=CPU_S)
    error = caught.value
    assert (error.reason, error.field) == (Reason.IMAGE_CORRUPT, IMAGE)
    assert error.message == "the image is no good"
    with pytest.raises(Internal):
        await pool.run(jobs.failed, cpu_s=CPU_S)
    assert lost == []


async def test_a_crash_costs_its_own_job(
    pool: WorkerPool, lost: list[Loss], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        error = await loss_of(pool, jobs.crashed, "task.image.content")
        assert (error.loss, error.note) == (Loss.CRASHED, "task.image.content")
        assert "SIGSEGV" in str(error)
        assert await pool.run(jobs.echoed, 1, cpu_s=CPU_S) == 1
    assert lost == [Loss.CRASHED] * 3
    lines = [r for r in caplog.records if r.getMessage() == "a worker did not come back"]
    assert len(lines) == 1


async def test_work_without_end_is_ended(pool: WorkerPool) -> None:
    assert (await loss_of(pool, jobs.spun, cpu_s=0.2)).loss is Loss.CPU
    assert await pool.run(jobs.echoed, 1, cpu_s=CPU_S) == 1


async def test_memory_is_bounded(pool: WorkerPool) -> None:
    assert await pool.run(jobs.grown, 32 << 20, cpu_s=CPU_S) == 32 << 20
    assert (await loss_of(pool, jobs.grown, 96 << 20)).loss is Loss.MEMORY
    assert (await loss_of(pool, jobs.killed)).loss is Loss.MEMORY
    assert await pool.run(jobs.echoed, 1, cpu_s=CPU_S) == 1


async def test_a_job_that_hangs_is_ended(nursery: Nursery, tmp_path: Path) -> None:
    pool = WorkerPool("tests", nursery, 1, job_s=0.2)
    assert (await loss_of(pool, jobs.slept, str(tmp_path / "began"))).loss is Loss.TIME
    pool.close()


async def test_a_caller_that_goes_takes_its_worker_along(pool: WorkerPool, tmp_path: Path) -> None:
    busy = await pool.run(jobs.pid, cpu_s=CPU_S)
    began = tmp_path / "began"
    job = asyncio.create_task(pool.run(jobs.slept, str(began), cpu_s=CPU_S))
    await until(began.exists)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    # The only place is free at once, for a worker that is not the one that hangs.
    assert await pool.run(jobs.pid, cpu_s=CPU_S) != busy
    await until(lambda: not alive(busy))


async def test_what_nobody_asked_for_is_not_made(pool: WorkerPool) -> None:
    with pytest.raises(Internal):
        await pool.run(jobs.strange, cpu_s=CPU_S)
    assert await pool.run(jobs.echoed, 1, cpu_s=CPU_S) == 1


async def test_a_zygote_that_dies_is_started_again(
    pool: WorkerPool, nursery: Nursery, lost: list[Loss]
) -> None:
    worker = await pool.run(jobs.pid, cpu_s=CPU_S)
    assert nursery.pid is not None
    os.kill(nursery.pid, signal.SIGKILL)
    await until(lambda: not alive(worker))
    assert await pool.run(jobs.pid, cpu_s=CPU_S) != worker
    assert lost == []


async def test_with_the_parent_all_of_them_end(tmp_path: Path) -> None:
    forking = Nursery(("tests.isolation.jobs",), Limits(memory_bytes=64 << 20))
    pool = WorkerPool("tests", forking, 1)
    worker = await pool.run(jobs.pid, cpu_s=CPU_S)
    forking.close()
    await until(lambda: not alive(worker))
    pool.close()
