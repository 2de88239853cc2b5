"""A planner without a model: reads a few forms of English by rule. For tests and dry runs.

It answers in Gemma 4's call syntax, so everything behind the engine's seam runs as it does with a
model. It never looks at pixels: categories and indirect mentions are phrases to it. Words in an
instruction make it misbehave on purpose:

- `garbled-once`: the first answer is text that is no call, the next one is sound;
- `garbled-always`: every answer is;
- `nothing`: a plan that includes nothing.
"""

import re
import threading
import time
from collections.abc import Callable, Sequence
from itertools import chain, repeat

from limelight.values import ConceptQuery, ModelInfo, Plan, PlanOutcome, SelectBy, Selection
from services.planner.calls import PLAN, VERDICT, Call, call_from_plan, format_call
from services.planner.engines import Prompt
from services.planner.metrics import PlannerMetrics
from services.planner.prompt import Message
from services.planner.settings import PlannerSettings

GARBLED = "I would segment the dog."
_STEP_S = 0.005

_ORDERS = {
    "leftmost": SelectBy.LEFTMOST,
    "rightmost": SelectBy.RIGHTMOST,
    "topmost": SelectBy.TOPMOST,
    "bottommost": SelectBy.BOTTOMMOST,
    "largest": SelectBy.LARGEST,
    "biggest": SelectBy.LARGEST,
    "smallest": SelectBy.SMALLEST,
}
_RANKS = {"first": 1, "second": 2, "third": 3, "fourth": 4}
_COUNTS = {"two": 2, "three": 3, "four": 4}
_VERB = re.compile(r"^(please |segment |find |cut out |highlight |show |mask |select |me )+")
_ARTICLE = re.compile(r"^(all of the|all the|all|every|each|the|an|a|any)\s+")
_AND = re.compile(r",\s*(?:and\s+)?|\s+and\s+")
_EXCEPT = re.compile(r"\s+(?:except(?: for)?|but not|without)\s+")
_RANKED = re.compile(
    rf"^the (?P<rank>{'|'.join(_RANKS)}) (?P<noun>.+) from the (?P<side>left|right|top|bottom)$"
)
_ORDERED = re.compile(
    rf"^the (?:(?P<count>{'|'.join(_COUNTS)}) )?(?P<order>{'|'.join(_ORDERS)}) (?P<noun>.+)$"
)
_TRIGGERS = re.compile(r"\b(garbled-once|garbled-always)\b")


def from_settings(settings: PlannerSettings, metrics: PlannerMetrics) -> "FakePlannerEngine":
    """The engine as the registry makes it."""
    return FakePlannerEngine(settings.fake_delay_s, warm_up=True)


class FakePlannerEngine:
    """Answers after `delay_s` seconds, which it spends asking `wanted`, as a model would.

    With `warm_up`, its first answer takes no time.
    """

    def __init__(self, delay_s: float = 0.0, *, warm_up: bool = False) -> None:
        self._delays_s = chain([0.0] if warm_up else [], repeat(delay_s))
        self.batches: list[int] = []
        self.abandoned = 0
        self._pause = threading.Event()

    def load(self) -> None:
        """Nothing to load."""

    def close(self) -> None:
        """Wakes a waiting `generate`."""
        self._pause.set()

    def describe(self) -> ModelInfo:
        return ModelInfo(role="planner", name="fake", revision="rules-1", engine="fake")

    def generate(self, prompts: Sequence[Prompt], wanted: Callable[[], bool]) -> list[str]:
        self.batches.append(len(prompts))
        ready_at = time.monotonic() + next(self._delays_s)
        while (left := ready_at - time.monotonic()) > 0:
            if not wanted():
                self.abandoned += 1
                return [""] * len(prompts)
            self._pause.wait(min(left, _STEP_S))
        return [_answer(prompt) for prompt in prompts]


def read(instruction: str) -> Plan:
    """The plan of an instruction, by rule; phrases are lower case and without articles."""
    text = _TRIGGERS.sub("", instruction.lower()).strip(" .!?")
    text = _VERB.sub("", " ".join(text.split()))
    if not text or text == "nothing":
        return Plan(reason="the instruction asks for nothing", outcome=PlanOutcome.REFUSED)
    if match := _RANKED.match(text):
        by = SelectBy(f"{match['side']}most")
        return _plan(match["noun"], select=Selection(by, rank=_RANKS[match["rank"]]))
    if match := _ORDERED.match(text):
        count = _COUNTS.get(match["count"] or "", 1)
        return _plan(match["noun"], select=Selection(_ORDERS[match["order"]], count=count))
    wanted, *unwanted = _EXCEPT.split(text, maxsplit=1)
    return _plan(wanted, exclude=unwanted[0] if unwanted else "")


def _plan(include: str, exclude: str = "", select: Selection | None = None) -> Plan:
    return Plan(_queries(include), _queries(exclude), select, reason="read by rule")


def _queries(text: str) -> tuple[ConceptQuery, ...]:
    nouns = (_ARTICLE.sub("", noun.strip()) for noun in _AND.split(text))
    return tuple(ConceptQuery(noun) for noun in dict.fromkeys(nouns) if noun)


def _answer(prompt: Prompt) -> str:
    users = [_text(message) for message in prompt.messages if message["role"] == "user"]
    garbled = "garbled-always" in users[0] or ("garbled-once" in users[0] and len(users) == 1)
    if garbled:
        return GARBLED + "<turn|>"
    if prompt.tools[0]["function"]["name"] == PLAN:
        return format_call(call_from_plan(read(users[0]))) + "<turn|>"
    return format_call(_verdict(users[0])) + "<turn|>"


def _verdict(question: str) -> Call:
    """Accepts a candidate whose phrase shares a word with the instruction."""
    instruction, _, candidate = question.partition("\n")
    phrase = candidate.partition(":")[2]
    shared = set(phrase.lower().split()) & set(instruction.lower().strip(" .!?").split())
    return Call(VERDICT, {"accept": bool(shared), "reason": "compared word by word"})


def _text(message: Message) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")
