"""The simulated pool: what it must answer whatever its size."""

import numpy as np
import pytest

from loadtest.scaling.pool import Pool, simulate


def test_one_replica_does_what_its_batches_allow() -> None:
    pool = Pool(replicas=1, proxies=1)
    full = simulate(pool, load=1.5, seconds=60)
    assert full.per_s == pytest.approx(pool.most_per_s, rel=0.05)
    alone = simulate(pool, load=0.01, seconds=600)
    assert np.median(alone.seconds) == pytest.approx(pool.fixed_s + pool.item_s, rel=0.1)


def test_a_pool_of_sixteen_does_nearly_sixteen_times_as_much() -> None:
    one = simulate(Pool(replicas=1, proxies=1), load=1.5, seconds=60)
    sixteen = simulate(Pool(replicas=16, proxies=16), load=1.5, seconds=60)
    assert 0.9 < sixteen.per_s / (16 * one.per_s) < 1.02


def test_no_call_is_lost() -> None:
    calm = simulate(Pool(replicas=4, proxies=2), load=0.3, seconds=60)
    assert len(calm.seconds) == pytest.approx(0.3 * Pool(4, 2).most_per_s * 60, rel=0.1)
