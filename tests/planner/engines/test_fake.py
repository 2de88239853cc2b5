"""The fake engine reads simple English and speaks the real syntax."""

import threading
import time

import pytest

from limelight.values import PlanOutcome, SelectBy, Selection
from services.planner.calls import parse_call, plan_from_call
from services.planner.engines import Prompt
from services.planner.engines.fake import GARBLED, FakePlannerEngine, read
from services.planner.prompt import PLAN_TOOL, plan_messages


@pytest.mark.parametrize(
    ("instruction", "include", "exclude", "select"),
    [
        ("all the dogs", ["dogs"], [], None),
        ("Segment the red apple and the cat.", ["red apple", "cat"], [], None),
        ("a dog, a cat, and an owl", ["dog", "cat", "owl"], [], None),
        ("everything except the dogs", ["everything"], ["dogs"], None),
        ("the animals but not the cat", ["animals"], ["cat"], None),
        ("the leftmost dog", ["dog"], [], Selection(SelectBy.LEFTMOST)),
        ("the two smallest books", ["books"], [], Selection(SelectBy.SMALLEST, count=2)),
        (
            "the second penguin from the left",
            ["penguin"],
            [],
            Selection(SelectBy.LEFTMOST, rank=2),
        ),
    ],
)
def test_instructions_are_read(
    instruction: str, include: list[str], exclude: list[str], select: Selection | None
) -> None:
    plan = read(instruction)
    assert [query.phrase for query in plan.include] == include
    assert [query.phrase for query in plan.exclude] == exclude
    assert plan.select == select


def test_nothing_is_a_refusal() -> None:
    assert read("nothing").outcome is PlanOutcome.REFUSED


def prompt(instruction: str, *attempts: tuple[str, str]) -> Prompt:
    return Prompt(plan_messages(instruction, attempts), (), (PLAN_TOOL,))


def test_answers_are_calls_in_order() -> None:
    answers = FakePlannerEngine().generate([prompt("the dog"), prompt("the cat")], lambda: True)
    plans = [plan_from_call(parse_call(answer)) for answer in answers]
    assert [plan.include[0].phrase for plan in plans] == ["dog", "cat"]


def test_garbling_on_demand() -> None:
    engine = FakePlannerEngine()
    once, always = prompt("garbled-once dog"), prompt("garbled-always dog")
    assert all(GARBLED in text for text in engine.generate([once, always], lambda: True))
    again = prompt("garbled-once dog", (GARBLED, "no call"))
    still = prompt("garbled-always dog", (GARBLED, "no call"))
    better, worse = engine.generate([again, still], lambda: True)
    assert plan_from_call(parse_call(better)).include[0].phrase == "dog"
    assert GARBLED in worse


def test_it_stops_when_nobody_wants_it() -> None:
    engine = FakePlannerEngine(delay_s=30)
    gone = threading.Event()
    threading.Timer(0.05, gone.set).start()
    started = time.monotonic()
    engine.generate([prompt("the dog")], lambda: not gone.is_set())
    assert time.monotonic() - started < 5
    assert engine.abandoned == 1
