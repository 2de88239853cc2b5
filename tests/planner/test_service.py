"""Opening the planner: its model is asked once before it is ready."""

import pytest

from services.errors import CheckpointError
from services.planner.engines.fake import FakePlannerEngine
from services.planner.metrics import RecordedPlannerMetrics
from services.planner.service import open_planner, warm_up
from services.planner.settings import PlannerSettings


class MuteEngine(FakePlannerEngine):
    def generate(self, prompts, wanted):
        return []


async def test_it_opens_with_a_warm_model(metrics: RecordedPlannerMetrics) -> None:
    service = open_planner(PlannerSettings(engine="fake"), metrics)
    assert service.model.engine == "fake"
    service.check()
    await service.close()


def test_a_model_that_does_not_answer_is_refused() -> None:
    with pytest.raises(CheckpointError, match="fake failed its warm-up: 0 answers to one prompt"):
        warm_up(MuteEngine())


def test_the_warm_up_stops_after_a_few_tokens() -> None:
    engine = FakePlannerEngine(delay_s=60)
    warm_up(engine)
    assert engine.abandoned == 1
