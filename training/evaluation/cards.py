"""`python -m training.evaluation.cards`: puts measured figures where people read them.

`make eval` -> out/eval -> lines between two marks in the model cards and in the project's README,
and the charts beside the weights. What people wrote around the marks stays as it is. Scenes
(figures.json) and clips (clips.json) are measured apart; what was not measured stays, too.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from services.planner.settings import SHIPPED as SHIPPED_PLANNER
from services.segmenter.settings import SHIPPED as SHIPPED_SEGMENTER
from services.segmenter.video.settings import SHIPPED as SHIPPED_TRACKER
from training.evaluation.clip_report import TOGETHER

BEGIN = "<!-- figures: written by training.evaluation.cards -->"
CLIPS_BEGIN = "<!-- figures of clips: written by training.evaluation.cards -->"
END = "<!-- end of figures -->"

SEGMENTER, PLANNER = SHIPPED_SEGMENTER.name, SHIPPED_PLANNER.name
TRACKER = SHIPPED_TRACKER.name
_SHIPPED = {SEGMENTER: SHIPPED_SEGMENTER, PLANNER: SHIPPED_PLANNER, TRACKER: SHIPPED_TRACKER}
_TITLES = {"own": "own renderer", "second": "second renderer"}
_CHARTS = ("confusion", "reliability")  # beside the segmenter's weights

# Where a figure stands in a world's JSON, by what the summary and the segmenter's card call it.
_SUMMARY = {
    "F1@0.5": "phrases.all.f1",
    "F1@0.75": "phrases.all.f1_strict",
    "mean IoU": "phrases.all.mean_iou",
    "presence right": "phrases.presence",
    "false instances an absent phrase": "phrases.false_per_absent",
    "exemplar boxes: F1@0.5": "exemplars.f1",
    "with a negative one": "exemplars_negative.f1",
}
_CARD = {
    "phrases: F1@0.5": "phrases.all.f1",
    "phrases: F1@0.75": "phrases.all.f1_strict",
    "phrases: precision": "phrases.all.precision",
    "phrases: recall": "phrases.all.recall",
    "mean IoU of matches": "phrases.all.mean_iou",
    "presence right": "phrases.presence",
    "false instances an absent phrase": "phrases.false_per_absent",
    "exemplar boxes: F1@0.5": "exemplars.f1",
    "with a negative box: F1@0.5": "exemplars_negative.f1",
    "negative box beside a phrase: its thing gone": "negatives.gone",
    "  other things still there": "negatives.stayed",
}

_CLIPS = {
    "HOTA": "hota",
    "IDF1": "idf1",
    "identity switches a clip": "switches",
    "mean IoU": "mean_iou",
    "re-entries recovered": "recovery",
    "cgF1 a frame": "cgf1",
}

Worlds = Mapping[str, Mapping[str, Any]]


def main(
    folder: Annotated[Path, typer.Argument(help="Where `make eval` wrote.")] = Path("out/eval"),
    cards: Annotated[
        Path | None, typer.Option(help="Folder of the checkpoints. Default: the shipped ones.")
    ] = None,
    readme: Annotated[
        Path | None, typer.Option(help="The summary's page. Default: the project's README.md.")
    ] = None,
) -> None:
    """Put the figures of an evaluation into the model cards and the README, with its charts."""
    scenes, clips = (_read(folder / name) for name in ("figures.json", "clips.json"))
    if scenes is None and clips is None:
        raise typer.BadParameter(f"{folder} holds neither figures.json nor clips.json")
    front = readme or Path(__file__).parents[2] / "README.md"
    shipped = {name: cards / name if cards else folder for name, folder in _SHIPPED.items()}
    if scenes is not None:
        _insert(shipped[SEGMENTER] / "README.md", segmenter_figures(scenes))
        _insert(shipped[PLANNER] / "README.md", planner_figures(scenes))
        _insert(front, summary(scenes))
        for chart in _CHARTS:
            for world in scenes:
                drawn = folder / (f"{chart}-{world}.png" if len(scenes) > 1 else f"{chart}.png")
                if drawn.exists():
                    shutil.copyfile(drawn, shipped[SEGMENTER] / f"{chart}-{world}.png")
    if clips is not None:
        _insert(shipped[TRACKER] / "README.md", tracker_figures(clips))
        _insert(front, clip_summary(clips), CLIPS_BEGIN)


def _read(path: Path) -> Worlds | None:
    if not path.exists():
        return None
    worlds: Worlds = json.loads(path.read_text(encoding="utf-8"))["worlds"]
    return worlds


def _insert(page: Path, figures: str, begin: str = BEGIN) -> None:
    page.write_text(inserted(page.read_text(encoding="utf-8"), figures, begin), encoding="utf-8")
    print(page)


def inserted(page: str, figures: str, begin: str = BEGIN, end: str = END) -> str:
    """`page` with `figures` between the two marks.

    Raises:
        ValueError: the page lacks a mark.
    """
    head, begun, rest = page.partition(begin)
    _, ended, tail = rest.partition(end)
    if not begun or not ended:
        raise ValueError(f"the page lacks the line {end if begun else begin!r}")
    return f"{head}{begin}\n{figures.strip()}\n{end}{tail}"


def summary(worlds: Worlds) -> str:
    """Markdown: what a reader of the project asks first, a row or two a world."""
    phrases = [
        [_TITLES[name], *(_share(_at(world["figures"], path)) for path in _SUMMARY.values())]
        for name, world in worlds.items()
    ]
    exact = []
    for name, world in worlds.items():
        for title, key in (("plan and masks", "exact"), ("plan alone", "plan_right")):
            families = (_share_asked(one, key) for _, one in _families(worlds, world))
            every = f"**{_share(world['figures']['instructions'][key])}**"
            exact.append([f"{name}: {title}", *families, every])
    names = [family for family, _ in _families(worlds, next(iter(worlds.values())))]
    return "\n\n".join(
        (
            _measured(worlds),
            _table(["phrases", *_SUMMARY], phrases),
            _table(["instructions exactly right", *names, "all"], exact),
        )
    )


def clip_summary(worlds: Worlds) -> str:
    """Markdown: what a reader asks first of clips, a row a world."""
    rows = [
        [
            _TITLES[name],
            *(_share(world["phrases"][key]) for key in _CLIPS.values()),
            _share(world["families"][TOGETHER]["right"]),
        ]
        for name, world in worlds.items()
    ]
    table = _table(["clips", *_CLIPS, "instructions right"], rows)
    return f"{_clips_measured(worlds)}\n\n{table}"


def tracker_figures(worlds: Worlds) -> str:
    """Markdown: masklets and instructions by family, a column a world."""
    rows = [
        [name, *(_share(world["phrases"][key]) for world in worlds.values())]
        for name, key in {
            **_CLIPS,
            "DetA": "det_a",
            "AssA": "ass_a",
            "F1 of instances a frame": "positive_f1",
            "correlation of presence a frame": "correlation",
        }.items()
    ]
    rows.append(
        ["re-entries in all", *(str(world["phrases"]["reentries"]) for world in worlds.values())]
    )
    names = dict.fromkeys(name for world in worlds.values() for name in world["families"])
    instructions = [
        [name, *(_of_family(world["families"].get(name)) for world in worlds.values())]
        for name in names
    ]
    titles = [_TITLES[name] for name in worlds]
    return "\n\n".join(
        (
            _clips_measured(worlds),
            _table(["masklets of phrases", *titles], rows),
            _table(["instructions right, of how many", *titles], instructions),
        )
    )


def _of_family(one: Mapping[str, Any] | None) -> str:
    return "" if one is None else f"{_share(one['right'])} of {one['asked']}"


def _clips_measured(worlds: Worlds) -> str:
    lines = []
    for name, world in worlds.items():
        last = world["first_seed"] + world["clips"] - 1
        lines.append(
            f"{_TITLES[name]}: {world['clips']} clips of {world['frames']} frames, "
            f"{world['split']} seeds {world['first_seed']:,} to {last:,}"
        )
    return f"`make eval-clips`, through the public API. {'; '.join(lines).capitalize()}."


def segmenter_figures(worlds: Worlds) -> str:
    """Markdown: instances, presence, scores and every concept, a column a world."""
    titles = ["", *(_TITLES[name] for name in worlds)]
    rows = [
        [name, *(_share(_at(world["figures"], path)) for world in worlds.values())]
        for name, path in _CARD.items()
    ]
    scored = [world["calibration"] for world in worlds.values() if world.get("calibration")]
    if len(scored) == len(worlds):
        used = [
            next(one["f1"] for one in found["curve"] if one["threshold"] == 0.5) for found in scored
        ]
        best = [found["best"]["f1"] for found in scored]
        errors = [found["expected_error_answered"] for found in scored]
        rows += [
            ["F1 at a threshold of 0.5", *map(_share, used)],
            ["best F1 at any threshold", *map(_share, best)],
            ["calibration error, scores from 0.5", *map(_share, errors)],
        ]
    concepts = [
        [
            one[0]["concept"],
            *(" / ".join(_share(c[key]) for key in ("f1", "f1_strict", "presence")) for c in one),
        ]
        for one in zip(*(world["figures"]["concepts"] for world in worlds.values()), strict=True)
    ]
    return "\n\n".join(
        (
            _measured(worlds),
            _table(titles, rows),
            "### By concept\nPhrases, absent ones included: F1@0.5 / F1@0.75 / presence right.",
            _table(["concept", *titles[1:]], concepts),
        )
    )


def planner_figures(worlds: Worlds) -> str:
    """Markdown: every family, exactly right and plan right, and the parts of plans."""
    families, parts = ["family"], ["part of a plan"]
    for title in (_TITLES[name] for name in worlds):
        families += [f"{title}: exact", "plan right", "asked"]
        parts += [f"{title}: needed", "missing then", "needless else"]
    by_family: dict[str, list[str]] = {}
    by_part: dict[str, list[str]] = {}
    for world in worlds.values():
        for name, one in (*_families(worlds, world), ("all", world["figures"]["instructions"])):
            shares = [_share_asked(one, "exact"), _share_asked(one, "plan_right")]
            by_family.setdefault(name, [name]).extend([*shares, str(one["asked"] if one else 0)])
        for one in world["figures"]["plan_parts"]:
            cells = (str(one["needed"]), _share(one["missing"]), _share(one["needless"]))
            by_part.setdefault(one["part"], [one["part"]]).extend(cells)
    tables = (_table(families, by_family.values()), _table(parts, by_part.values()))
    return "\n\n".join((_measured(worlds), *tables))


def _families(
    worlds: Worlds, world: Mapping[str, Any]
) -> list[tuple[str, Mapping[str, Any] | None]]:
    """The first world's families with a world's figures of each; None where it was not asked."""
    names = next(iter(worlds.values()))["figures"]["families"]
    return [(name, world["figures"]["families"].get(name)) for name in names]


def _measured(worlds: Worlds) -> str:
    lines = []
    for name, world in worlds.items():
        last = world["first_seed"] + world["scenes"] - 1
        lines.append(
            f"{_TITLES[name]}: {world['scenes']} scenes, {world['split']} seeds "
            f"{world['first_seed']:,} to {last:,}, {world['figures']['calls']:,} calls"
        )
    return f"`make eval`, through the public API. {'; '.join(lines).capitalize()}."


def _at(figures: Mapping[str, Any], path: str) -> float:
    found: Any = figures
    for name in path.split("."):
        found = found[name]
    return float(found)


def _share(value: float) -> str:
    return f"{value:.3f}"


def _share_asked(family: Mapping[str, Any] | None, key: str) -> str:
    return "" if family is None else _share(family[key])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    typer.run(main)
