"""The seam between the planner and whatever model writes its answers.

Flow: `services.planner.asking` -> micro-batcher -> `PlannerEngine.generate` -> texts for
`services.planner.calls`. An engine renders prompts in its model's chat format and writes text; it
knows nothing of plans, verdicts or requests. `create` imports only the engine that was chosen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from limelight.values import ModelInfo
from services.planner.metrics import PlannerMetrics
from services.planner.prompt import Message
from services.replica.engines import open_engine

if TYPE_CHECKING:
    from services.planner.settings import PlannerSettings

# What makes each engine, by the name that the setting `engine` takes.
ENGINES = {
    "transformers": "services.planner.engines.transformers:TransformersPlannerEngine",
    "fake": "services.planner.engines.fake:from_settings",
}

Tool: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class PromptImage:
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
    pictures: Sequence[PromptImage]
    tools: Sequence[Tool]


class PlannerEngine(Protocol):
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


def create(settings: "PlannerSettings", metrics: PlannerMetrics) -> PlannerEngine:
    """The engine that `settings.engine` names, not loaded yet."""
    engine: PlannerEngine = open_engine(settings.engine, ENGINES, settings, metrics)
    return engine
