"""`python -m services.stickers.evaluation.cards`: puts measured figures where people read them.

`make eval` -> out/eval -> lines between two marks in the model cards and in the project's README,
and the pictures beside the weights. What people wrote around the marks stays as it is.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

BEGIN = "<!-- figures: written by services.stickers.evaluation.cards -->"
END = "<!-- end of figures -->"

SEGMENTER, PLANNER = "sticker-sam3", "sticker-gemma4"
_TITLES = {"own": "own renderer", "second": "second renderer"}
_PICTURES = {
    SEGMENTER: ("confusion", "reliability"),
    PLANNER: (),
}

_SUMMED = (
    "phrases",
    "F1@0.5",
    "F1@0.75",
    "mean IoU",
    "presence right",
    "false instances an absent phrase",
    "exemplar boxes: F1@0.5",
    "with a negative one",
)
_EXACT = "instructions exactly right"

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
    """Put the figures of an evaluation into the model cards and the README, with its pictures."""
    root = cards or Path(__file__).parents[1] / "checkpoints"
    worlds: Worlds = json.loads((folder / "figures.json").read_text(encoding="utf-8"))["worlds"]
    for name, text in ((SEGMENTER, segmenter_figures(worlds)), (PLANNER, planner_figures(worlds))):
        _insert(root / name / "README.md", text)
        for picture in _PICTURES[name]:
            for world in worlds:
                drawn = folder / (f"{picture}-{world}.png" if len(worlds) > 1 else f"{picture}.png")
                if drawn.exists():
                    shutil.copyfile(drawn, root / name / f"{picture}-{world}.png")
    _insert(readme or Path(__file__).parents[3] / "README.md", summary(worlds))


def _insert(page: Path, figures: str) -> None:
    page.write_text(inserted(page.read_text(encoding="utf-8"), figures), encoding="utf-8")
    print(page)


def inserted(page: str, figures: str) -> str:
    """`page` with `figures` between its two marks.

    Raises:
        ValueError: the page lacks a mark.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the line {END if begin else BEGIN!r}")
    return f"{head}{BEGIN}\n{figures.strip()}\n{END}{tail}"


def summary(worlds: Worlds) -> str:
    """Markdown: what a reader of the project asks first, a row or two a world."""
    figures = {name: world["figures"] for name, world in worlds.items()}
    phrases = [
        [
            _TITLES[name],
            *(_share(f["phrases"]["all"][key]) for key in ("f1", "f1_strict", "mean_iou")),
            *(_share(f["phrases"][key]) for key in ("presence", "false_per_absent")),
            *(_share(f[key]["f1"]) for key in ("exemplars", "exemplars_negative")),
        ]
        for name, f in figures.items()
    ]
    families = list(next(iter(figures.values()))["families"])
    exact = []
    for name, f in figures.items():
        for title, key in (("plan and masks", "exact"), ("plan alone", "plan_right")):
            cells = (_share_asked(f["families"].get(family), key) for family in families)
            exact.append([f"{name}: {title}", *cells, f"**{_share(f['instructions'][key])}**"])
    return "\n\n".join(
        (_measured(worlds), _table(_SUMMED, phrases), _table([_EXACT, *families, "all"], exact))
    )


def segmenter_figures(worlds: Worlds) -> str:
    """Markdown: instances, presence, scores and every concept, a column or more a world."""
    figures = [world["figures"] for world in worlds.values()]
    rows = [
        ("phrases: F1@0.5", [f["phrases"]["all"]["f1"] for f in figures]),
        ("phrases: F1@0.75", [f["phrases"]["all"]["f1_strict"] for f in figures]),
        ("phrases: precision", [f["phrases"]["all"]["precision"] for f in figures]),
        ("phrases: recall", [f["phrases"]["all"]["recall"] for f in figures]),
        ("mean IoU of matches", [f["phrases"]["all"]["mean_iou"] for f in figures]),
        ("presence right", [f["phrases"]["presence"] for f in figures]),
        ("false instances an absent phrase", [f["phrases"]["false_per_absent"] for f in figures]),
        ("exemplar boxes: F1@0.5", [f["exemplars"]["f1"] for f in figures]),
        ("with a negative box: F1@0.5", [f["exemplars_negative"]["f1"] for f in figures]),
    ]
    scored = [world.get("calibration") for world in worlds.values()]
    if all(scored):
        rows += [
            ("F1 at a threshold of 0.5", [_used(one) for one in scored if one]),
            ("best F1 at any threshold", [one["best"]["f1"] for one in scored if one]),
            ("calibration error, scores from 0.5", [_answered(one) for one in scored if one]),
        ]
    return "\n\n".join(
        (
            _measured(worlds),
            _table(["", *_titles(worlds)], [[name, *map(_share, row)] for name, row in rows]),
            "### By concept\nPhrases, absent ones included: F1@0.5 / F1@0.75 / presence right.",
            _concepts(worlds),
        )
    )


def planner_figures(worlds: Worlds) -> str:
    """Markdown: every family, exactly right and plan right, and the parts of plans."""
    families = list(next(iter(worlds.values()))["figures"]["families"])
    header = ["family"]
    for title in _titles(worlds):
        header += [f"{title}: exact", "plan right", "asked"]
    rows = [
        [name, *_family([w["figures"]["families"].get(name) for w in worlds.values()])]
        for name in families
    ]
    rows.append(["all", *_family([w["figures"]["instructions"] for w in worlds.values()])])
    parts = [part["part"] for part in next(iter(worlds.values()))["figures"]["plan_parts"]]
    used = []
    for index, part in enumerate(parts):
        row = [part]
        for world in worlds.values():
            one = world["figures"]["plan_parts"][index]
            row += [str(one["needed"]), _share(one["missing"]), _share(one["needless"])]
        used.append(row)
    columns = ["part of a plan"]
    for title in _titles(worlds):
        columns += [f"{title}: needed", "missing then", "needless else"]
    return "\n\n".join((_measured(worlds), _table(header, rows), _table(columns, used)))


def _family(families: Iterable[Mapping[str, Any] | None]) -> list[str]:
    cells: list[str] = []
    for one in families:
        cells += (_share_asked(one, "exact"), _share_asked(one, "plan_right"))
        cells.append(str(one["asked"] if one else 0))
    return cells


def _concepts(worlds: Worlds) -> str:
    tables = [world["figures"]["concepts"] for world in worlds.values()]
    rows = [
        [
            one[0]["concept"],
            *(" / ".join(_share(c[key]) for key in ("f1", "f1_strict", "presence")) for c in one),
        ]
        for one in zip(*tables, strict=True)
    ]
    return _table(["concept", *_titles(worlds)], rows)


def _measured(worlds: Worlds) -> str:
    lines = []
    for name, world in worlds.items():
        last = world["first_seed"] + world["scenes"] - 1
        lines.append(
            f"{_TITLES[name]}: {world['scenes']} scenes, {world['split']} seeds "
            f"{world['first_seed']:,} to {last:,}, {world['figures']['calls']:,} calls"
        )
    return f"`make eval`, through the public API. {'; '.join(lines).capitalize()}."


def _used(calibration: Mapping[str, Any]) -> float:
    return float(next(one["f1"] for one in calibration["curve"] if one["threshold"] == 0.5))


def _answered(calibration: Mapping[str, Any]) -> float:
    return float(calibration["expected_error_answered"])


def _titles(worlds: Worlds) -> list[str]:
    return [_TITLES[name] for name in worlds]


def _share(value: float) -> str:
    return f"{value:.3f}"


def _share_asked(family: Mapping[str, Any] | None, key: str) -> str:
    """A share of a family of instructions; nothing where none of it was asked."""
    return "" if family is None else _share(family[key])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    typer.run(main)
