"""One world measured at one address: the step between the command and the report."""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limelight import AsyncClient
from training.evaluation import calibration, confusion, sheet
from training.evaluation.evaluator import OnScene, ServiceEvaluator
from training.evaluation.figures import count
from training.evaluation.matching import DetectionFigures, detected
from training.evaluation.questions import QuestionBuilder
from training.evaluation.report import EvaluationReport
from training.evaluation.scoring import InstructionScore, PhraseScore
from training.evaluation.second_renderer import background_kind
from training.evaluation.worlds import World
from training.world.vocabulary import Vocabulary

_WORST = 12


@dataclass(frozen=True)
class Measurement:
    """What to measure of one world.

    Attributes:
        world: whose scenes.
        split: the name of what `seeds` are of.
        seeds: the scenes, consecutive.
        per_scene: instructions asked about each.
        perfect_plans: see `ServiceEvaluator`.
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
    """A report, and the instructions' scores that its sheet is drawn from."""

    report: EvaluationReport
    instructions: tuple[InstructionScore, ...]

    def draw(self, sheets: Path | None, confusions: Path | None, reliability: Path | None) -> None:
        """Draw the worst answers, what was taken for what, and the calibration if it was measured.

        Args:
            sheets, confusions, reliability: where to, in the format of the suffix; None: not at
                all. Folders are made where they are missing.
        """
        report = self.report
        for path in filter(None, (sheets, confusions, reliability)):
            path.parent.mkdir(parents=True, exist_ok=True)
        if sheets is not None:
            worst = sheet.worst(self.instructions, _WORST)
            sheet.draw(worst, report.world.renderer).savefig(sheets)
        if confusions is not None:
            title = f"{report.world} world, {report.scenes} scenes:\ntaken for another, of how many"
            drawn = confusion.draw(report.figures.confusions, f"{title} there")
            # Tight: a small matrix is narrower than its title.
            drawn.savefig(confusions, bbox_inches="tight")
        if reliability is not None and report.calibration is not None:
            title = f"scores, {report.world} world, {report.calibration.queries} phrases"
            calibration.draw(report.calibration, title).savefig(reliability)


async def measure(
    address: str, wanted: Measurement, concurrency: int, on_scene: OnScene
) -> Measured:
    """Ask everything of a measurement at the gateway's address.

    Raises:
        ExceptionGroup: of `LimelightError`: nothing answers there.
    """
    began = time.monotonic()
    builder = QuestionBuilder(Vocabulary.load(), wanted.per_scene, wanted.world.renderer)
    async with AsyncClient(address) as client:
        evaluator = ServiceEvaluator(client, builder, concurrency, wanted.perfect_plans)
        scenes = await evaluator.evaluate(wanted.seeds, on_scene)
        ranked = await evaluator.ranked(wanted.seeds[: wanted.scored], on_scene)
    phrases = [score for one in scenes for score in one.phrases]
    exemplars = [score for one in scenes for score in one.exemplars]
    negatives = [score for one in scenes for score in one.negatives]
    instructions = [score for one in scenes for score in one.instructions]
    models = {model for one in scenes for model in one.models}
    report = EvaluationReport(
        world=wanted.world,
        split=wanted.split,
        first_seed=wanted.seeds[0],
        scenes=len(wanted.seeds),
        perfect_plans=wanted.perfect_plans,
        models=tuple(sorted(models, key=lambda model: (model.role, model.revision))),
        seconds=round(time.monotonic() - began, 1),
        figures=count(phrases, exemplars, negatives, instructions),
        backgrounds=_by_background(phrases) if wanted.world is World.SECOND else {},
        calibration=calibration.calibrate(ranked) if ranked else None,
    )
    return Measured(report, tuple(instructions))


def _by_background(phrases: Sequence[PhraseScore]) -> dict[str, DetectionFigures]:
    groups: dict[str, list[PhraseScore]] = defaultdict(list)
    for score in phrases:
        groups[background_kind(score.seed)].append(score)
    return {kind: detected(s.comparison for s in groups[kind]) for kind in sorted(groups)}
