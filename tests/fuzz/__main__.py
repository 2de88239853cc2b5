"""`make fuzz`: feeds every target for a while, then measures generated hostile requests.

Prints what raised what it must not, with a file of the input, and what the requests cost: exits 1
if anything raised, crashed, took a second of processor time beyond a clean picture of its size, or
was not ended 100 ms after its deadline.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from services.isolation.pool import Nursery, WorkerLost, WorkerPool
from services.isolation.wire import Limits
from tests.fuzz import cost
from tests.fuzz.mutations import mutated
from tests.fuzz.requests import SEED, HostileRequest, hostile_requests
from tests.fuzz.targets import FuzzTarget, targets

MOST_EXCESS_S = 1.0
MOST_LATE_S = 0.1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--requests", type=int, default=10_000, help="hostile requests")
    parser.add_argument("--first", type=int, default=0, help="number of the first of them")
    parser.add_argument("--minutes", type=float, default=1e6, help="the requests end then")
    parser.add_argument("--deadline", type=float, default=2.0, help="of each, in seconds")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="for failing inputs")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    failures = 0
    for target in targets().values():
        failures += _fuzz(target, options.seconds, options.seed, options.out)
    failures += asyncio.run(
        _requests(
            hostile_requests(options.requests, options.seed, first=options.first),
            options.seed,
            options.deadline,
            time.monotonic() + 60 * options.minutes,
            options.out,
        )
    )
    return 1 if failures else 0


def _fuzz(target: FuzzTarget, seconds: float, seed: int, out: Path) -> int:
    source = random.Random(f"{seed}:{target.name}")
    seen: Counter[str] = Counter()
    tried, slowest, end = 0, 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(source.choice(target.seeds), source.choice(target.seeds), source)
        begin = time.process_time()
        try:
            target.feed(data)
        except Exception as error:
            name = f"{type(error).__name__}: {str(error)[:80]}"
            if not seen[name]:
                (out / f"{target.name}-{len(seen)}").write_bytes(data)
            seen[name] += 1
        slowest = max(slowest, time.process_time() - begin)
        tried += 1
    print(f"{target.name:12s}{tried:>9d} inputs, slowest {slowest:.2f} s, {seen.total()} failures")
    for name, count in seen.items():
        print(f"    {count} x {name}")
    return seen.total()


async def _requests(
    requests: Iterator[HostileRequest], seed: int, deadline_s: float, end: float, out: Path
) -> int:
    """Measure the requests until `end`, each in a worker that its deadline ends."""
    nursery = Nursery(("tests.fuzz.cost",), Limits(2 << 30, jobs=200))
    pool = WorkerPool("fuzz", nursery, 1, results=(cost.Cost,))
    outcomes: Counter[str] = Counter()
    excess: list[tuple[float, str]] = []
    late: list[tuple[float, str]] = []
    failures = 0
    numbers: list[int] = []
    for request in requests:
        if time.monotonic() > end:
            break
        numbers.append(request.number)
        name = f"{request.number} {request.name}"
        begin = time.monotonic()
        try:
            async with asyncio.timeout(deadline_s):
                found = await pool.run(cost.spent, request, cpu_s=60.0)
        except TimeoutError:
            outcomes["ended at its deadline"] += 1
            late.append((time.monotonic() - begin - deadline_s, name))
            # Once more for what it would have cost: a busy machine alone may make it late.
            try:
                found = await pool.run(cost.spent, request, cpu_s=60.0)
            except WorkerLost:
                failures += _kept(request, out)
            else:
                excess.append((cost.excess_s(found), name))
        except WorkerLost as lost:
            outcomes[f"worker {lost.loss}"] += 1
            failures += _kept(request, out)
        except Exception as error:
            outcomes[type(error).__name__] += 1
            failures += _kept(request, out)
        else:
            outcomes[found.outcome] += 1
            excess.append((cost.excess_s(found), name))
    pool.close()
    nursery.close()
    excess.sort(reverse=True)
    late.sort(reverse=True)
    span = f"{numbers[0]} to {numbers[-1]}" if numbers else "none"
    print(f"hostile requests {span} of seed {seed}: {dict(outcomes.most_common())}")
    print(f"a clean picture of the dearest format: {cost.clean_cpu_s():.3f} s a megapixel")
    print("most beyond a clean picture of its size:")
    for seconds, name in excess[:5]:
        print(f"    {seconds:+.2f} s of processor time: {name}")
    for seconds, name in late[:5]:
        print(f"    ended {seconds * 1000:.0f} ms after its deadline: {name}")
    failures += sum(seconds > MOST_EXCESS_S for seconds, _ in excess)
    failures += sum(seconds > MOST_LATE_S for seconds, _ in late)
    print(f"{failures} failures")
    return failures


def _kept(request: HostileRequest, out: Path) -> int:
    (out / f"request-{request.number}").write_bytes(request.image)
    return 1


if __name__ == "__main__":
    sys.exit(main())
