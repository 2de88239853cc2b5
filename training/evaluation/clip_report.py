"""What a tracking evaluation found of one world: tables for people, JSON for programs."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from limelight import AsyncClient, ModelInfo
from training.evaluation.clip_evaluator import ClipEvaluator, ClipScores, InstructedScore, OnClip
from training.evaluation.clip_questions import ClipQuestionBuilder
from training.evaluation.clip_sheet import strip
from training.evaluation.report import figure_table
from training.evaluation.tracking import TrackingFigures, figures
from training.evaluation.worlds import World
from training.world.vocabulary import Vocabulary

TOGETHER = "together"
"""The name of all families of instructions as one."""


@dataclass(frozen=True)
class InstructedFigures:
    """Instructions of one family, or of all: how many were asked, and answered right."""

    asked: int
    right: float


@dataclass(frozen=True)
class ClipReport:
    """The figures and what they were measured on.

    Attributes:
        world: whose clips.
        split, first_seed, clips: the seeds are `clips` consecutive ones of the world's split.
        frames: in each.
        models: all that answered.
        seconds: the evaluation took, the start of a stack apart.
        phrases: every concept of every clip and one absent from it, each a question.
        families: instructions by family, and all of them.
        errors: failed calls by why; they count as answers of nothing.
    """

    world: World
    split: str
    first_seed: int
    clips: int
    frames: int
    models: tuple[ModelInfo, ...]
    seconds: float
    phrases: TrackingFigures
    families: Mapping[str, InstructedFigures]
    errors: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


async def measure_clips(
    address: str,
    world: World,
    split: str,
    seeds: range,
    frames: int,
    concurrency: int,
    on_clip: OnClip,
) -> tuple[ClipReport, list[ClipScores]]:
    """Ask everything about some clips at the gateway's address.

    Raises:
        ExceptionGroup: of `LimelightError`: nothing answers there.
    """
    began = time.monotonic()
    builder = ClipQuestionBuilder(Vocabulary.load(), frames, world.clips)
    async with AsyncClient(address) as client:
        scores = await ClipEvaluator(client, builder, concurrency).evaluate(seeds, on_clip)
    models = {model for one in scores for model in one.models}
    report = ClipReport(
        world=world,
        split=split,
        first_seed=seeds[0],
        clips=len(seeds),
        frames=frames,
        models=tuple(sorted(models, key=lambda model: (model.role, model.revision))),
        seconds=round(time.monotonic() - began, 1),
        phrases=figures((phrase for one in scores for phrase in one.phrases), len(scores)),
        families=_families([one.instructed for one in scores if one.instructed is not None]),
        errors=Counter(error for one in scores for error in one.errors),
    )
    return report, scores


async def answered_strips(
    address: str, world: World, frames: int, seeds: Sequence[int]
) -> list[NDArray[np.uint8]]:
    """Ask some clips for their phrases again: of each the truth, and the answer below it."""
    builder = ClipQuestionBuilder(Vocabulary.load(), frames, world.clips)
    drawn = []
    async with AsyncClient(address) as client:
        evaluator = ClipEvaluator(client, builder)
        for seed in seeds:
            asked = await asyncio.to_thread(builder.questions, seed)
            words = [question.phrase for question in asked.phrases]
            answer = await evaluator.ask(asked, None, {"phrases": words})
            drawn += [strip(asked.clip), strip(asked.clip, answers=list(answer.masks()))]
    return drawn


def _families(scores: Sequence[InstructedScore]) -> dict[str, InstructedFigures]:
    by_family: dict[str, list[bool]] = defaultdict(list)
    for one in sorted(scores, key=lambda one: one.family):
        by_family[one.family.value].append(one.right)
    groups = {**by_family, TOGETHER: [one.right for one in scores]}
    return {name: InstructedFigures(len(x), sum(x) / len(x)) for name, x in groups.items() if x}


def show_clips(report: ClipReport, console: Console) -> None:
    """Print the tables, and last what they were measured on."""
    console.rule(f"{report.world} world, clips")
    found = report.phrases
    table = figure_table("Masklets of phrases", "")
    for name, value in {
        "HOTA": found.hota,
        "  DetA": found.det_a,
        "  AssA": found.ass_a,
        "IDF1": found.idf1,
        "identity switches a clip": found.switches,
        "mean IoU": found.mean_iou,
        f"re-entries recovered, of {found.reentries}": found.recovery,
        "cgF1 a frame": found.cgf1,
        "  F1 of instances where something is wanted": found.positive_f1,
        "  correlation of presence": found.correlation,
    }.items():
        table.add_row(name, f"{value:.3f}")
    instructions = figure_table("Instructions", "asked", "right")
    for name, one in report.families.items():
        instructions.add_row(name, str(one.asked), f"{one.right:.3f}")
    console.print(table, instructions)
    failed = ", ".join(f"{count} {name}" for name, count in report.errors.items()) or "none"
    last = report.first_seed + report.clips - 1
    console.print(f"Failed calls, counted as answers of nothing: {failed}")
    console.print(
        f"{report.world} world, {report.clips} clips of {report.frames} frames, {report.split} "
        f"seeds {report.first_seed} to {last}, {found.wanted} masks wanted, in "
        f"{report.seconds:.0f} s"
    )
    for model in report.models:
        console.print(f"{model.role}: {model.name}, revision {model.revision} ({model.engine})")
