"""One line of text in any script: which font writes which part of it, in which order, how wide.

`render` writes its labels with this. A line is cut into grapheme clusters, each is given the first
font that covers it, and runs of one font and one direction are shaped by HarfBuzz (in Pillow, by
Raqm) and set in the order of the Unicode bidirectional algorithm. What no font covers is written by
the numbers of its characters, `[U+1820]`, never as an empty box.

The fonts are Noto's (SIL Open Font License), as the packages `manimgx-fonts` and
`manimgx-fonts-cjk` have them: Latin, Greek, Cyrillic, Arabic, Armenian, Bengali, Chinese,
Devanagari, Ethiopic, Georgian, Gujarati, Gurmukhi, Hebrew, Japanese, Kannada, Khmer, Korean, Lao,
Malayalam, Myanmar, Oriya, Sinhala, Tamil, Telugu and Thai, symbols, and emoji without color.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from unicodedata import bidirectional

import regex
from bidi import algorithm
from PIL import ImageDraw, ImageFont

_FIRST = "NotoSans[wght].ttf"
_EMOJI = "NotoEmoji[wght].ttf"
_SLANTED = "Italic"
_CJK = "NotoSansCJK-VF.otf.ttc"
# Faces of the collection, which differ in how they draw characters that languages share.
_JAPANESE, _KOREAN, _SIMPLIFIED, _TRADITIONAL = range(4)
# Light letters on a dark ground look thinner than they are.
_WEIGHT = 500
# Longer labels are cut before anything is measured.
_MOST_CLUSTERS = 200

_ELLIPSIS = "…"
_CLUSTER = regex.compile(r"\X")
# Of these nothing is seen, so no font need have them: joiners, variation selectors and their like.
_INVISIBLE = regex.compile(r"\p{Default_Ignorable_Code_Point}")
# What only steers direction is left out: a label must not be made to read as another.
_STEERING = regex.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CONTROL = regex.compile(r"\p{Cc}")
_EMOJI_CLUSTER = regex.compile(r"\p{Emoji_Presentation}|\ufe0f")
# Goes with whatever stands before it.
_NEUTRAL = regex.compile(r"[\p{Script=Common}\p{Script=Inherited}]+")
_KANA = regex.compile(r"[\p{Script=Hiragana}\p{Script=Katakana}]")
_HANGUL = regex.compile(r"\p{Script=Hangul}")
_BOPOMOFO = regex.compile(r"\p{Script=Bopomofo}")


@dataclass(frozen=True, slots=True)
class _Face:
    """A font file, or one face of a collection."""

    path: Path
    index: int = 0


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What a reader sees as one character: what is drawn for it, in which font, how directed.

    `level` is the bidirectional algorithm's: even from the left, odd from the right.
    """

    text: str
    face: _Face
    level: int


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbors of one font and one direction."""

    text: str
    font: ImageFont.FreeTypeFont
    direction: str

    @property
    def width(self) -> float:
        return float(self.font.getlength(self.text, direction=self.direction))

    @property
    def reach(self) -> tuple[int, int]:
        """How far its ink goes above the baseline, and below."""
        _, top, _, bottom = self.font.getbbox(self.text, anchor="ls", direction=self.direction)
        return math.ceil(-top), math.ceil(bottom)


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line that is ready to be drawn: runs from the left. Sizes are in pixels.

    `ascent` and `descent` are those of Latin letters, or more where its own letters reach further.
    """

    runs: tuple[_Run, ...]
    ascent: int
    descent: int

    @property
    def width(self) -> float:
        return sum(run.width for run in self.runs)

    def draw(self, draw: ImageDraw.ImageDraw, x: float, baseline: float, fill: object) -> None:
        """Write it from `x` on."""
        for run in self.runs:
            draw.text(
                (x, baseline),
                run.text,
                font=run.font,
                fill=fill,  # type: ignore[arg-type]
                anchor="ls",
                direction=run.direction,
            )
            x += run.width


def line(text: str, size: float, width: float = float("inf")) -> TextLine:
    """`text` in letters of `size` pixels, cut with an ellipsis to at most `width`.

    White space is one space; a cluster (a letter with its marks, an emoji of several characters) is
    never cut.
    """
    clusters = _clusters(" ".join(text.split()))
    if len(clusters) <= _MOST_CLUSTERS:
        whole = _set(clusters, size)
        if whole.width <= width:
            return whole
    low, high = 0, min(len(clusters), _MOST_CLUSTERS)
    while low < high:  # the most clusters that leave room for the ellipsis
        middle = (low + high + 1) // 2
        if _set(_cut(clusters, middle), size).width <= width:
            low = middle
        else:
            high = middle - 1
    return _set(_cut(clusters, low), size)


def uncovered(text: str) -> tuple[str, ...]:
    """The characters of `text` that no font covers, as `U+1820`, each once, in their order."""
    found = (cluster for cluster in _split(text) if _face_of(cluster, None, _index(text)) is None)
    return tuple(dict.fromkeys(name for cluster in found for name in _names(cluster)))


# --- from text to clusters ------------------------------------------------------------------------


def _split(text: str) -> list[str]:
    """The grapheme clusters of which something is seen."""
    found = _CLUSTER.findall(_STEERING.sub("", text))
    return [cluster for cluster in found if _INVISIBLE.sub("", cluster)]


def _names(cluster: str) -> list[str]:
    return [f"U+{ord(char):04X}" for char in _INVISIBLE.sub("", cluster)]


def _clusters(text: str) -> list[_Cluster]:
    """`text` with a font and a level for each of its clusters."""
    latin = _Face(_paths()[0])
    if text.isascii() and text.isprintable():
        return [_Cluster(char, latin, 0) for char in text]
    split, index = _split(text), _index(text)
    clusters: list[_Cluster] = []
    before: _Face | None = None
    for cluster, level in zip(split, _levels(split), strict=True):
        face = _face_of(cluster, before, index)
        if face is not None:
            clusters.append(_Cluster(cluster, face, level))
        elif clusters and before is None:
            numbers = f"{clusters[-1].text[:-1]} {' '.join(_names(cluster))}]"
            clusters[-1] = replace(clusters[-1], text=numbers)
        else:
            # Numbers read from the left, wherever they stand.
            clusters.append(_Cluster(f"[{' '.join(_names(cluster))}]", latin, level + level % 2))
        before = face
    return clusters


def _cut(clusters: Sequence[_Cluster], count: int) -> list[_Cluster]:
    """The first `count` and an ellipsis, on the side to which the last of them reads."""
    kept = list(clusters[:count])
    while kept and kept[-1].text == " ":
        kept.pop()
    after = kept[-1] if kept else (clusters[0] if clusters else None)
    level = after.level if after else 0
    return [*kept, _Cluster(_ELLIPSIS, _Face(_paths()[0]), level)]


def _levels(clusters: Sequence[str]) -> list[int]:
    """The level of each cluster, by its first character; the line's is that of its first letter."""
    # What has no direction yet, since no Unicode knows it, stands as a symbol would.
    text = "".join(one[0] if bidirectional(one[0]) else "\ufffd" for one in clusters)
    if not text:
        return []
    storage = algorithm.get_empty_storage()
    base = algorithm.get_base_level(text)
    storage["base_level"], storage["base_dir"] = base, ("L", "R")[base]
    algorithm.get_embedding_levels(text, storage)
    for place, char in enumerate(storage["chars"]):
        char["place"] = place
    algorithm.explicit_embed_and_overrides(storage)
    algorithm.resolve_weak_types(storage)
    algorithm.resolve_neutral_types(storage, False)
    algorithm.resolve_implicit_levels(storage, False)
    levels = [base] * len(clusters)
    for char in storage["chars"]:
        levels[char["place"]] = char["level"]
    return levels


# --- fonts ----------------------------------------------------------------------------------------


@cache
def _paths() -> tuple[Path, ...]:
    """The font files in the order in which they are asked, that of all scripts' Latin first."""
    folder = Path(str(files("manimgx_fonts")))
    found = sorted(path for path in folder.glob("*.ttf") if _SLANTED not in path.name)
    found.sort(key=lambda path: (path.name != _FIRST, path.name == _EMOJI))
    return (*found, Path(str(files("manimgx_fonts_cjk"))) / _CJK)


@cache
def _coverage(path: Path) -> Callable[[int], bool]:
    """Whether the font at `path` has a glyph for a code point; its table is kept as ranges."""
    # Slow to import, and of no use to labels in plain English.
    from fontTools.ttLib import TTFont

    with TTFont(path, fontNumber=0, lazy=True) as font:
        points = sorted(font.getBestCmap())
    starts, ends = [], []
    for _, group in groupby(enumerate(points), key=lambda pair: pair[1] - pair[0]):
        members = [point for _, point in group]
        starts.append(members[0])
        ends.append(members[-1])

    def covers(point: int) -> bool:
        place = bisect_right(starts, point) - 1
        return place >= 0 and point <= ends[place]

    return covers


def _covers(path: Path, cluster: str) -> bool:
    covers = _coverage(path)
    seen = _INVISIBLE.sub("", cluster)
    # Some fonts have an empty glyph for control characters.
    return not _CONTROL.search(seen) and all(covers(ord(char)) for char in seen)


@lru_cache(maxsize=4096)
def _face_of(cluster: str, before: _Face | None, index: int) -> _Face | None:
    """The font for a cluster after one in the font `before`; None where none covers it.

    `index` is the face of the collection for Chinese, Japanese and Korean.
    """
    candidates: Iterator[Path] = iter(_paths())
    if _EMOJI_CLUSTER.search(cluster):
        candidates = iter(sorted(_paths(), key=lambda path: path.name != _EMOJI))
    elif (
        before is not None
        and before.path.name != _EMOJI  # whose space is as wide as an emoji
        and _NEUTRAL.fullmatch(cluster)
        and _covers(before.path, cluster)
    ):
        return before
    for path in candidates:
        if _covers(path, cluster):
            return _Face(path, index if path.name == _CJK else 0)
    return None


def _index(text: str) -> int:
    """The face of the collection for a line of `text`, by letters that one language alone has."""
    for pattern, index in ((_KANA, _JAPANESE), (_HANGUL, _KOREAN), (_BOPOMOFO, _TRADITIONAL)):
        if pattern.search(text):
            return index
    return _SIMPLIFIED


@lru_cache(maxsize=64)
def _font(face: _Face, size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(
        str(face.path), size, index=face.index, layout_engine=ImageFont.Layout.RAQM
    )
    font.set_variation_by_axes([_WEIGHT])
    return font


# --- from clusters to a line ----------------------------------------------------------------------


def _set(clusters: Sequence[_Cluster], size: float) -> TextLine:
    """The line of `clusters`, which are in the order in which they are read."""
    size = round(2 * size) / 2  # so that lines of nearly one size share their fonts
    runs = [
        (
            level,
            _Run(
                "".join(one.text for one in group), _font(face, size), "rtl" if level % 2 else "ltr"
            ),
        )
        for (face, level), group in groupby(clusters, key=lambda one: (one.face, one.level))
    ]
    ascent, descent = _font(_Face(_paths()[0]), size).getmetrics()
    reaches = [run.reach for _, run in runs]
    return TextLine(
        tuple(_ordered(runs)),
        max([ascent, *(above for above, _ in reaches)]),
        max([descent, *(below for _, below in reaches)]),
    )


def _ordered(runs: Sequence[tuple[int, _Run]]) -> list[_Run]:
    """The runs from the left: rule L2 of the bidirectional algorithm (UAX #9)."""
    ordered = list(runs)
    for level in range(max((level for level, _ in runs), default=0), 0, -1):
        turned: list[tuple[int, _Run]] = []
        deeper: list[tuple[int, _Run]] = []
        for run in ordered:
            if run[0] >= level:
                deeper.append(run)
            else:
                turned += [*reversed(deeper), run]
                deeper = []
        ordered = [*turned, *reversed(deeper)]
    return [run for _, run in ordered]
