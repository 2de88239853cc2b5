"""The seam between the planner and whatever model writes its answers.

Flow: `services.planner.asking` -> micro-batcher -> `Engine.generate` -> texts for
`services.planner.calls`. An engine renders prompts in its model's chat format and writes text; it
knows nothing of plans, verdicts or requests. `create` imports only the engine that was chosen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.domain import ModelInfo
from services.planner.metrics import Metrics
from services.planner.prompt import Message
from services.planner.settings import EngineName, Settings

Tool: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image of a prompt: `rgb` is (height, width, 3) uint8.

    `key` names the content. Pictures of one key are the same pixels, so an engine may keep what it
    computed for them; an empty key is never kept.
    """

    rgb: NDArray[np.uint8]
    key: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """One chat to be continued: messages in transformers' format, their images in order, tools."""

    messages: Sequence[Message]
    pictures: Sequence[Picture]
    tools: Sequence[Tool]


class Engine(Protocol):
    """A model that continues chats. Calls come from one worker thread at a time."""

    def load(self) -> None:
        """Read the weights. Called once, before all else; slow."""

    def close(self) -> None:
        """Give back what `load` took. Nothing is called afterwards."""

    def describe(self) -> ModelInfo:
        """Which model this is. Valid after `load`."""

    def generate(self, prompts: Sequence[Prompt], wanted: Callable[[], bool]) -> list[str]:
        """One answer a prompt, special tokens written out, in the order asked.

        `wanted` is asked between tokens; once it says no, nobody reads the answers any more and
        the engine stops where it is.
        """


def create(settings: Settings, metrics: Metrics) -> Engine:
    """The engine that `settings.engine` names, not loaded yet."""
    match settings.engine:
        case EngineName.TRANSFORMERS:
            from services.planner.engines.transformers import TransformersEngine

            return TransformersEngine(settings, metrics)
        case EngineName.FAKE:
            from services.planner.engines.fake import FakeEngine

            return FakeEngine(settings.fake_delay_s)
