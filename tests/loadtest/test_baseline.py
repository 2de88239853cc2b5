"""The plain loop as a process, on the fake engine."""

from pathlib import Path

import pytest

from limelight.values import RLE
from loadtest.baseline import Baseline, digest
from loadtest.pictures import Album


@pytest.mark.slow
async def test_it_loops_as_often_as_it_is_told(tmp_path: Path) -> None:
    pictures = Album(range(20_000_000, 20_000_002)).originals
    async with Baseline(pictures, tmp_path, {"engine": "fake"}) as plain:
        first = await plain.run(0.3, threads=1)
        second = await plain.run(0.3, threads=1)
    assert first.pictures > 0
    assert first.seconds >= 0.3
    assert first.throughput > 0
    assert set(first.stages_ms) == {"decode", "encode", "detect", "masks"}
    # Its stages are its time: nothing else is counted as work.
    assert 0.8 * first.seconds < first.pictures * sum(first.stages_ms.values()) / 1000
    assert len(first.digests) == 2
    assert first.digests == second.digests


def test_a_digest_knows_masks_in_any_order() -> None:
    one, other = RLE((2, 2), b"04"), RLE((2, 2), b"13")
    assert digest([one, other]) == digest([other, one]) != digest([one])
