from pathlib import Path

import pytest

from loadtest.video.baseline import EngineAlone
from loadtest.video.footage import footage
from training.world.splits import VALIDATION


@pytest.mark.slow
async def test_every_session_of_the_engine_alone_answers_every_frame(tmp_path: Path) -> None:
    clip = footage(VALIDATION[0], (96, 64), frames=20, drawn=4)
    settings = {"engine": "fake", "max_sessions": "3"}
    async with EngineAlone(clip, tmp_path, settings, max_objects=2) as engine:
        alone = await engine.run(1)
        together = await engine.run(3)
    assert (alone.sessions, alone.frames) == (1, 20)
    assert (together.sessions, together.frames) == (3, 60)
    for run in (alone, together):
        assert run.seconds > 0
        assert run.cpu_s > 0
        assert run.rate == run.frames / run.seconds
