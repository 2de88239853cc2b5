"""Whether a score means what it says: of the instances scored 0.8, are eight in ten right?

Phrases are asked again with a low threshold; each answered instance is right when
it shows a wanted one (IoU 0.5 or more). Flow: `ServiceEvaluator.ranked` -> `rank` -> `calibrate` ->
the report, and `draw` for a person.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.figure import Figure

from training.evaluation.matching import ranked_hits, share_of
from training.evaluation.questions import PhraseQuestion, QuestionSet
from training.evaluation.scoring import ServiceAnswer

LOW_THRESHOLD = 0.05
"""What phrases are asked with here, instead of the service's default."""

USED_THRESHOLD = 0.5
"""The service's default."""

_EDGES = tuple(tenth / 10 for tenth in range(11))
_THRESHOLDS = tuple(twentieth / 20 for twentieth in range(1, 20))


@dataclass(frozen=True)
class RankedAnswer:
    """One phrase's answer, "don't care" instances left out.

    Attributes:
        wanted: how many instances are.
        instances: of each that was answered, its score and whether it is right.
    """

    wanted: int
    instances: tuple[tuple[float, bool], ...]


@dataclass(frozen=True)
class ScoreBin:
    """The instances scored from `low` to below `high` (the last bin: and 1): means of them."""

    low: float
    high: float
    instances: int
    score: float
    right: float


@dataclass(frozen=True)
class OperatingPoint:
    """Detection, had the threshold been this one."""

    threshold: float
    f1: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Calibration:
    """How far scores can be trusted.

    Attributes:
        queries: phrases asked.
        bins: by tenths of the score.
        expected_error: the expected calibration error: the mean gap of a bin's mean score and its
            share of right instances, weighted by its instances.
        expected_error_answered: the same of the instances that the default threshold lets through.
        curve: detection by threshold.
        best: the threshold of the highest F1; the one nearest to the default where several are.
    """

    queries: int
    bins: tuple[ScoreBin, ...]
    expected_error: float
    expected_error_answered: float
    curve: tuple[OperatingPoint, ...]
    best: OperatingPoint

    @property
    def used(self) -> OperatingPoint:
        """Detection at the default threshold."""
        return next(one for one in self.curve if one.threshold == USED_THRESHOLD)


def rank(asked: QuestionSet, question: PhraseQuestion, answer: ServiceAnswer) -> RankedAnswer:
    """An answer to a phrase, the best score first; of a failed call, nothing was answered."""
    ranked = sorted(zip(answer.scores, answer.masks, strict=True), key=lambda one: -one[0])
    hits = ranked_hits(
        [mask for _, mask in ranked], asked.truth(question.wanted), asked.truth(question.dont_care)
    )
    scored = zip(ranked, hits, strict=True)
    return RankedAnswer(
        len(question.wanted), tuple((score, hit) for (score, _), hit in scored if hit is not None)
    )


def calibrate(answers: Sequence[RankedAnswer]) -> Calibration:
    """The calibration over all answers together."""
    scored = [instance for answer in answers for instance in answer.instances]
    wanted = sum(answer.wanted for answer in answers)
    bins = tuple(_bin(low, high, scored) for low, high in pairwise(_EDGES))
    curve = tuple(_operating(threshold, scored, wanted) for threshold in _THRESHOLDS)
    return Calibration(
        queries=len(answers),
        bins=bins,
        expected_error=_expected_error(bins),
        expected_error_answered=_expected_error([b for b in bins if b.low >= USED_THRESHOLD]),
        curve=curve,
        best=max(curve, key=lambda one: (one.f1, -abs(one.threshold - USED_THRESHOLD))),
    )


def _bin(low: float, high: float, scored: Sequence[tuple[float, bool]]) -> ScoreBin:
    inside = [(s, right) for s, right in scored if low <= s < high or (high == s == 1.0)]
    scores, rights = (sum(values) for values in zip((0.0, 0.0), *inside, strict=True))
    return ScoreBin(
        low, high, len(inside), share_of(scores, len(inside)), share_of(rights, len(inside))
    )


def _expected_error(bins: Sequence[ScoreBin]) -> float:
    gaps = sum(one.instances * abs(one.score - one.right) for one in bins)
    return share_of(gaps, sum(one.instances for one in bins))


def _operating(
    threshold: float, scored: Sequence[tuple[float, bool]], wanted: int
) -> OperatingPoint:
    answered = [right for score, right in scored if score >= threshold]
    hits = sum(answered)
    return OperatingPoint(
        threshold=threshold,
        f1=share_of(2 * hits, wanted + len(answered)),
        precision=share_of(hits, len(answered)),
        recall=share_of(hits, wanted),
    )


def draw(found: Calibration, title: str) -> Figure:
    """Reliability above counts on the left, detection by threshold on the right."""
    figure = Figure((10, 5), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplot_mosaic(
        [["reliability", "threshold"], ["counts", "threshold"]], height_ratios=[3, 1]
    )
    filled = [one for one in found.bins if one.instances]
    middles = [(one.low + one.high) / 2 for one in filled]
    axes = panels["reliability"]
    axes.set_title(
        f"expected calibration error {found.expected_error:.3f}, "
        f"of scores from {USED_THRESHOLD}: {found.expected_error_answered:.3f}"
    )
    axes.bar(middles, [one.right for one in filled], 0.09, color="tab:blue", alpha=0.6)
    axes.plot([one.score for one in filled], [one.right for one in filled], "o", color="tab:blue")
    axes.plot([0, 1], [0, 1], "--", color="gray")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share that is right")
    axes = panels["counts"]
    axes.bar(middles, [one.instances for one in filled], 0.09, color="gray")
    # Most scores lie at the ends; a logarithm of nothing at all cannot be drawn.
    scale = "log" if filled else "linear"
    axes.set(xlim=(0, 1), yscale=scale, xlabel="score", ylabel="instances")
    axes = panels["threshold"]
    for name, label in (("f1", "F1"), ("precision", "precision"), ("recall", "recall")):
        axes.plot(_THRESHOLDS, [getattr(one, name) for one in found.curve], label=label)
    axes.axvline(USED_THRESHOLD, linestyle="--", color="gray")
    axes.set_title(
        f"F1 {found.used.f1:.3f} at {USED_THRESHOLD}, best {found.best.f1:.3f} at "
        f"{found.best.threshold:.2f}"
    )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="threshold")
    axes.legend(loc="lower center")
    return figure
