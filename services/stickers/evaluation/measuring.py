"""One world measured at one address: the step between the command and the report.

Flow: seeds -> `Examiner` -> marks -> `figures` -> `Report`, and the pictures for a person.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from limelight import AsyncClient
from services.stickers.evaluation import calibration, confusion, sheet
from services.stickers.evaluation.detections import Detection, detected
from services.stickers.evaluation.examination import Examiner
from services.stickers.evaluation.figures import count
from services.stickers.evaluation.marking import InstructionMark, PhraseMark
from services.stickers.evaluation.questions import Setter
from services.stickers.evaluation.report import Report
from services.stickers.evaluation.second_renderer import background_kind
from services.stickers.evaluation.worlds import World
from services.stickers.vocabulary import Vocabulary

_WORST = 12

OnScene = Callable[[], None]


@dataclass(frozen=True)
class Task:
    """What to measure of one world.

    Attributes:
        world: whose scenes.
        split: the name of what `seeds` are of.
        seeds: the scenes, consecutive.
        per_scene: instructions asked about each.
        perfect_plans: see `Examiner`.
        scored: for how many of the scenes the phrases are asked again, to judge the scores.
    """

    world: World
    split: str
    seeds: range
    per_scene: int
    perfect_plans: bool = False
    scored: int = 0

    @property
    def steps(self) -> int:
        """How often `measure` calls `on_scene`."""
        return len(self.seeds) + len(self.seeds[: self.scored])


@dataclass(frozen=True)
class Measured:
    """A report, and the instructions' marks that its sheet is drawn from."""

    report: Report
    instructions: tuple[InstructionMark, ...]


async def measure(address: str, task: Task, concurrency: int, on_scene: OnScene) -> Measured:
    """Ask everything of a task at the gateway's address.

    Raises:
        ExceptionGroup: of `LimelightError`: nothing answers there.
    """
    began = time.monotonic()
    setter = Setter(Vocabulary.load(), task.per_scene, task.world.renderer)
    async with AsyncClient(address) as client:
        examiner = Examiner(
            client, setter, concurrency=concurrency, perfect_plans=task.perfect_plans
        )
        marks = await examiner.examine(task.seeds, on_scene)
        scores = await examiner.scores(task.seeds[: task.scored], on_scene)
    phrases = [mark for one in marks for mark in one.phrases]
    instructions = [mark for one in marks for mark in one.instructions]
    report = Report(
        world=task.world,
        split=task.split,
        first_seed=task.seeds[0],
        scenes=len(task.seeds),
        perfect_plans=task.perfect_plans,
        models=tuple(
            sorted({m for one in marks for m in one.models}, key=lambda m: (m.role, m.revision))
        ),
        seconds=round(time.monotonic() - began, 1),
        figures=count(phrases, [mark for one in marks for mark in one.exemplars], instructions),
        backgrounds=_by_background(phrases) if task.world is World.SECOND else {},
        calibration=calibration.calibrate(scores) if scores else None,
    )
    return Measured(report, tuple(instructions))


def draw_sheet(measured: Measured, path: Path) -> None:
    """Draw the worst answers as PNG."""
    worst = sheet.worst(measured.instructions, _WORST)
    _made(path)
    sheet.draw(worst, measured.report.world.renderer).save(path, "PNG")


def draw_confusion(report: Report, path: Path) -> None:
    """Draw what was taken for what, in the format of the path's suffix."""
    title = f"{report.world} world, {report.scenes} scenes:\ntaken for another, of how many there"
    _made(path)
    # Tight: a small matrix is narrower than its title.
    confusion.draw(report.figures.confusions, title).savefig(path, bbox_inches="tight")


def draw_reliability(report: Report, path: Path) -> None:
    """Draw the calibration, in the format of the path's suffix; none was measured: nothing."""
    if report.calibration is not None:
        title = f"scores, {report.world} world, {report.calibration.queries} phrases"
        _made(path)
        calibration.draw(report.calibration, title).savefig(path)


def _by_background(phrases: Sequence[PhraseMark]) -> dict[str, Detection]:
    groups: dict[str, list[PhraseMark]] = defaultdict(list)
    for mark in phrases:
        groups[background_kind(mark.seed)].append(mark)
    return {kind: detected(m.comparison for m in groups[kind]) for kind in sorted(groups)}


def _made(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
