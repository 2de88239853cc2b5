"""Planning through the whole core: fake engine, real batcher, parser, cache and codecs."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from limelight.values import ConceptQuery, ModelInfo, PlanOutcome, SelectBy, Selection
from services.codecs.images import encode
from services.deadline import Deadline
from services.errors import (
    DeadlinePassed,
    InvalidMedia,
    InvalidRequest,
    Overloaded,
    Reason,
    TooLarge,
    Unavailable,
)
from services.planner.engines import Prompt
from services.planner.engines.fake import FakePlannerEngine
from services.planner.metrics import RecordedPlannerMetrics
from services.planner.service import PlannerService
from tests.conftest import Clock, Until

Serving = Callable[..., PlannerService]
FOREVER = Deadline()


class ScriptedEngine(FakePlannerEngine):
    """Says what it is told to, in order, and keeps what it was asked."""

    def __init__(self, *answers: str, delay_s: float = 0.0) -> None:
        super().__init__(delay_s)
        self._answers = list(answers)
        self.prompts: list[Prompt] = []

    def describe(self) -> ModelInfo:
        return ModelInfo("planner", "scripted", "1", "fake")

    def generate(self, prompts: Sequence[Prompt], wanted: Callable[[], bool]) -> list[str]:
        super().generate(prompts, wanted)
        self.prompts.extend(prompts)
        return [self._answers.pop(0) for _ in prompts]


def call(text: str) -> str:
    return f"<|tool_call>call:plan{{{text}}}<tool_call|><turn|>"


async def test_a_plan_is_made_from_the_models_call(
    serving: Serving, picture: bytes, metrics: RecordedPlannerMetrics
) -> None:
    engine = FakePlannerEngine()
    planned = await serving(engine).plan(picture, "the two largest dogs", FOREVER)
    assert planned.plan.include == (ConceptQuery("dogs"),)
    assert planned.plan.select == Selection(SelectBy.LARGEST, rank=1, count=2)
    assert planned.plan.outcome is PlanOutcome.OK
    assert (planned.attempts, planned.cached) == (1, False)
    assert planned.model == engine.describe()
    assert set(planned.timings_ms) == {"decode", "plan"}
    assert metrics.counts["planned", "ok"] == 1


async def test_the_model_sees_the_picture_and_the_instruction(
    serving: Serving, picture: bytes
) -> None:
    engine = ScriptedEngine(call('include:[<|"|>cat<|"|>]'))
    await serving(engine).plan(picture, "  the\tcat\n please ", FOREVER)
    (prompt,) = engine.prompts
    assert prompt.pictures[0].rgb.shape == (64, 96, 3)
    assert prompt.messages[1]["content"][-1]["text"] == "the cat please"
    assert [tool["function"]["name"] for tool in prompt.tools] == ["plan"]


async def test_an_invalid_answer_is_asked_again_with_its_fault(
    serving: Serving, picture: bytes, metrics: RecordedPlannerMetrics
) -> None:
    engine = ScriptedEngine(call("include:[1]"), call('include:[<|"|>cat<|"|>]'))
    planned = await serving(engine).plan(picture, "the cat", FOREVER)
    assert planned.plan.include == (ConceptQuery("cat"),)
    assert planned.plan.outcome is PlanOutcome.RETRIED
    assert planned.attempts == 2
    *_, said, shown = engine.prompts[1].messages
    assert said["role"] == "assistant"
    assert "include:[1]" in str(said["content"])
    assert "must be text" in str(shown["content"])
    assert metrics.counts["planned", "retried"] == 1
    assert metrics.counts["attempts",] == 2


async def test_two_invalid_answers_degrade_to_the_instruction_and_say_so(
    serving: Serving, picture: bytes, metrics: RecordedPlannerMetrics
) -> None:
    service = serving(ScriptedEngine("no", "no", call('include:[<|"|>cat<|"|>]')))
    planned = await service.plan(picture, "Please find the cat.", FOREVER)
    assert planned.plan.outcome is PlanOutcome.DEGRADED
    assert planned.plan.include == (ConceptQuery("cat"),)
    assert "no valid plan" in planned.plan.reason
    assert planned.attempts == 2
    assert metrics.counts["planned", "degraded"] == 1
    # What the model did not say is not kept: the next caller gets a fresh chance.
    assert (await service.plan(picture, "Please find the cat.", FOREVER)).plan.outcome == "ok"


async def test_there_is_no_second_attempt_that_could_not_end_in_time(
    serving: Serving, picture: bytes, until: Until, clock: Clock
) -> None:
    engine = FakePlannerEngine(delay_s=30)
    service = serving(engine)
    asked = asyncio.create_task(service.plan(picture, "garbled-once cat", Deadline.after(50)))
    await until(lambda: engine.batches)
    clock.advance(31)  # the attempt ends, and there are 19 s for another that takes 31
    planned = await asked
    assert planned.plan.outcome is PlanOutcome.DEGRADED
    assert planned.attempts == 1
    assert engine.batches == [1]


async def test_nothing_to_include_is_a_refusal_with_a_reason(
    serving: Serving, picture: bytes
) -> None:
    planned = await serving(FakePlannerEngine()).plan(picture, "nothing", FOREVER)
    assert planned.plan.outcome is PlanOutcome.REFUSED
    assert planned.plan.include == ()
    assert planned.plan.reason


async def test_the_same_question_is_answered_from_the_cache(
    serving: Serving, picture: bytes, metrics: RecordedPlannerMetrics
) -> None:
    engine = FakePlannerEngine()
    service = serving(engine)
    first = await service.plan(picture, "the dog", FOREVER)
    again = await service.plan(picture, " the  dog ", FOREVER)
    assert again.plan == first.plan
    assert (again.cached, again.attempts) == (True, 0)
    await service.plan(picture, "the cat", FOREVER)
    other = encode(np.zeros((32, 32, 3), np.uint8))
    await service.plan(other, "the dog", FOREVER)
    assert engine.batches == [1, 1, 1]
    assert (metrics.counts["hit", "plan"], metrics.counts["miss", "plan"]) == (1, 3)


async def test_callers_of_one_question_share_the_work(serving: Serving, picture: bytes) -> None:
    engine = FakePlannerEngine(delay_s=0.05)
    service = serving(engine)
    planned = await asyncio.gather(*(service.plan(picture, "the dog", FOREVER) for _ in range(5)))
    assert engine.batches == [1]
    assert len({item.plan for item in planned}) == 1


async def test_callers_of_different_questions_share_batches(
    serving: Serving, picture: bytes
) -> None:
    engine = FakePlannerEngine(delay_s=0.05)
    service = serving(engine, max_batch_prompts=3)
    words = ["dog", "cat", "car", "tree", "apple", "horse", "owl"]
    planned = await asyncio.gather(
        *(service.plan(picture, f"the {word}", FOREVER) for word in words)
    )
    assert [item.plan.include[0].phrase for item in planned] == words
    assert sum(engine.batches) == 7
    assert max(engine.batches) == 3


async def test_a_patient_caller_survives_the_hasty_one_it_joined(
    serving: Serving, picture: bytes, until: Until, clock: Clock
) -> None:
    engine = FakePlannerEngine(delay_s=60)
    service = serving(engine)
    hasty = asyncio.create_task(service.plan(picture, "the dog", Deadline.after(30)))
    await until(lambda: engine.batches)
    patient = asyncio.create_task(service.plan(picture, "the dog", Deadline.after(1000)))
    await asyncio.sleep(0)
    clock.advance(40)
    with pytest.raises(DeadlinePassed):
        await hasty
    assert not patient.done()
    # The work that was joined may have gone with the hasty caller, and be begun again.
    await until(lambda: clock.advance(1) or patient.done())
    assert (await patient).plan.include == (ConceptQuery("dog"),)


async def test_a_hasty_caller_does_not_wait_for_the_patient_one(
    serving: Serving, picture: bytes, until: Until, clock: Clock
) -> None:
    engine = FakePlannerEngine(delay_s=600)
    service = serving(engine)
    patient = asyncio.create_task(service.plan(picture, "the dog", FOREVER))
    await until(lambda: engine.batches)
    hasty = asyncio.create_task(service.plan(picture, "the dog", Deadline.after(30)))
    await asyncio.sleep(0)
    clock.advance(40)
    with pytest.raises(DeadlinePassed):
        await hasty
    assert not patient.done()
    clock.advance(600)
    assert (await patient).plan.outcome is PlanOutcome.OK


async def test_who_leaves_frees_the_engine_and_the_queue(
    serving: Serving, picture: bytes, metrics: RecordedPlannerMetrics, until: Until
) -> None:
    engine = FakePlannerEngine(delay_s=30.0)
    service = serving(engine, max_batch_prompts=1)
    running = asyncio.create_task(service.plan(picture, "the dog", FOREVER))
    await until(lambda: engine.batches)
    waiting = asyncio.create_task(service.plan(picture, "the cat", FOREVER))
    await until(lambda: metrics.gauges.get(("depth", "generate")) == 1)
    waiting.cancel()
    await until(lambda: metrics.gauges["depth", "generate"] == 0)
    running.cancel()
    await until(lambda: engine.abandoned)
    assert engine.batches == [1]
    assert waiting.cancelled()
    assert running.cancelled()
    assert metrics.counts["departed", "plan", "cancelled"] == 2


async def test_a_deadline_that_passed_costs_no_model(
    serving: Serving, picture: bytes, metrics: RecordedPlannerMetrics
) -> None:
    engine = FakePlannerEngine()
    with pytest.raises(DeadlinePassed):
        await serving(engine).plan(picture, "the dog", Deadline.after(0))
    assert engine.batches == []
    assert metrics.counts["departed", "plan", "deadline"] == 1


async def test_a_full_queue_is_refused_with_a_time_to_come_again(
    serving: Serving, picture: bytes, until: Until, clock: Clock
) -> None:
    engine = FakePlannerEngine(delay_s=600)
    service = serving(engine, max_batch_prompts=1, max_queued_prompts=2)
    asked = [asyncio.create_task(service.plan(picture, f"number {i}", FOREVER)) for i in range(6)]
    # One is worked on, two wait; whether the first has left the queue in time decides on a third.
    await until(lambda: sum(task.done() for task in asked) >= 3)
    await until(lambda: clock.advance(10) or all(task.done() for task in asked))
    results = await asyncio.gather(*asked, return_exceptions=True)
    refused = [result for result in results if isinstance(result, Overloaded)]
    assert 1 <= len(refused) <= 4
    assert all(error.retry_after_s for error in refused)


async def test_a_closed_service_takes_no_more(picture: bytes, serving: Serving) -> None:
    service = serving(FakePlannerEngine())
    await service.close()
    with pytest.raises((Unavailable, RuntimeError)):
        await service.plan(picture, "the dog", FOREVER)


@pytest.mark.parametrize("instruction", ["", "  \n ", "x" * 1001, "the \x00dog", "\u200b"])
async def test_a_bad_instruction_is_named(
    serving: Serving, picture: bytes, instruction: str
) -> None:
    engine = FakePlannerEngine()
    with pytest.raises(InvalidRequest) as caught:
        await serving(engine).plan(picture, instruction, FOREVER)
    assert caught.value.reason is Reason.INSTRUCTION_INVALID
    assert str(caught.value.field) == "instruction"
    assert engine.batches == []


async def test_a_bad_image_reaches_no_model(serving: Serving, picture: bytes) -> None:
    engine = FakePlannerEngine()
    service = serving(engine, max_image_bytes=1 << 20, max_image_pixels=96 * 64)
    for content, kind in [
        (b"", InvalidMedia),
        (b"not an image", InvalidMedia),
        (picture[: len(picture) // 2], InvalidMedia),
        (b"\0" * ((1 << 20) + 1), TooLarge),
        (encode(np.zeros((100, 100, 3), np.uint8)), TooLarge),
    ]:
        with pytest.raises(kind) as caught:
            await service.plan(content, "the dog", FOREVER)
        assert str(caught.value.field) == "image.content"
    assert engine.batches == []
