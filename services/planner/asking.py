"""Asks the model one question, and once more when its answer is not a valid call.

Flow: `planning` and `reviewing` -> `Asker.ask` -> micro-batcher -> engine -> `calls.parse_call`.
Callers' prompts share the engine's batches. A caller that leaves, or whose deadline passes, leaves
its batch; a batch without callers stops at its next token.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from services.deadline import Deadline
from services.planner.calls import Call, CallError, parse_call
from services.planner.engines import PlannerEngine, Prompt

logger = logging.getLogger(__name__)

T = TypeVar("T")

Attempts = Sequence[tuple[str, str]]


@dataclass(slots=True, eq=False)
class QueuedPrompt:
    """A prompt on its way through the batcher; `dropped` once nobody waits for its answer."""

    prompt: Prompt
    deadline: Deadline
    dropped: bool = False

    @property
    def wanted(self) -> bool:
        return not self.dropped and not self.deadline.passed


class PromptBatcher(Protocol):
    """What `ask` needs of the micro-batcher."""

    async def submit(self, item: QueuedPrompt, deadline: Deadline) -> str:
        """The answer to `item`; raises `DeadlinePassed` or `Overloaded`."""


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """What came of a question: `value` is None when no attempt gave a valid call, `fault` says why.

    `attempts` counts how often the model was asked.
    """

    value: T | None
    attempts: int
    fault: str = ""


def answer_batch(engine: PlannerEngine, questions: Sequence[QueuedPrompt]) -> list[str]:
    """The engine's answers to `questions`; the micro-batcher's work, on its own thread."""
    return engine.generate(
        [question.prompt for question in questions],
        wanted=lambda: any(question.wanted for question in questions),
    )


class Asker:
    """Puts questions to the engine behind `batcher`."""

    def __init__(self, batcher: PromptBatcher) -> None:
        self._batcher = batcher

    async def ask(
        self,
        write: Callable[[Attempts], Prompt],
        read: Callable[[Call], T],
        deadline: Deadline,
    ) -> Reply[T]:
        """Ask, read the answer, and ask once more with the fault shown if it cannot be read.

        `write` gives the prompt after the failed attempts (answer, fault) so far; `read` turns the
        call into a value or raises `CallError`. The second attempt is left out when less time is
        left than the first one took.

        Raises:
            DeadlinePassed: the time ran out during an attempt.
            Overloaded: there was no room in the queue.
        """
        started = time.monotonic()
        answer = await self._answer(write(()), deadline)
        took_s = time.monotonic() - started
        try:
            return Reply(read(parse_call(answer)), attempts=1)
        except CallError as exc:
            fault = str(exc)
        left_s = deadline.remaining_s()
        if left_s is not None and left_s < took_s:
            logger.info("no time for a second attempt after: %s", fault)
            return Reply(None, attempts=1, fault=fault)
        answer = await self._answer(write([(answer, fault)]), deadline)
        try:
            return Reply(read(parse_call(answer)), attempts=2)
        except CallError as exc:
            logger.info("two invalid answers: %s; %s", fault, exc)
            return Reply(None, attempts=2, fault=str(exc))

    async def _answer(self, prompt: Prompt, deadline: Deadline) -> str:
        deadline.check()
        question = QueuedPrompt(prompt, deadline)
        try:
            return await self._batcher.submit(question, deadline)
        finally:
            question.dropped = True
