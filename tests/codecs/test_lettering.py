"""`services.codecs.lettering`: every script by its font, in its order, never an empty box."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from services.codecs import lettering
from services.codecs.lettering import line, uncovered

# A noun or two in each script that the fonts cover, and marks that join, stack or precede.
SCRIPTS = {
    "accents": "naïve café, Việt Nam, žluťoučký",
    "Greek": "Ελληνικά ἄνθρωπος",
    "Cyrillic": "красное яблоко",
    "Armenian": "կարմիր խնձոր",
    "Georgian": "წითელი ვაშლი",
    "Hebrew": "תפוח אדום",
    "Arabic": "تفاحة حمراء",
    "Persian": "سگ‌ها",
    "Devanagari": "लाल सेब क्षत्रिय",
    "Bengali": "লাল আপেল",
    "Gurmukhi": "ਲਾਲ ਸੇਬ",
    "Gujarati": "લાલ સફરજન",
    "Oriya": "ଲାଲ ସେଓ",
    "Tamil": "சிவப்பு ஆப்பிள்",
    "Telugu": "ఎరుపు ఆపిల్",
    "Kannada": "ಕೆಂಪು ಸೇಬು",
    "Malayalam": "ചുവന്ന ആപ്പിൾ",
    "Sinhala": "රතු ඇපල්",
    "Thai": "แอปเปิลสีแดง ผู้",
    "Lao": "ໝາກໂປມແດງ",
    "Khmer": "ផ្លែប៉ោមក្រហម",
    "Myanmar": "ပန်းသီးအနီ",
    "Ethiopic": "ቀይ ፖም",
    "Chinese": "红苹果，兩隻狗",
    "Japanese": "赤いリンゴ",
    "Korean": "빨간 사과",
    "emoji": "🐶🍎👩‍👩‍👧🇫🇷❤️1️⃣👍🏽",
    "symbols": "→ ☃ ★ ½ € № ™ “…” – —",
}
MONGOLIAN = "ᠨᠣᠬᠠᠢ"


def drawn(text: str, size: float = 32.0) -> np.ndarray:
    """The line as a picture: bool (h, w), true where there is ink."""
    set_line = line(text, size)
    canvas = Image.new("L", (int(set_line.width) + 20, set_line.ascent + set_line.descent))
    set_line.draw(ImageDraw.Draw(canvas), 10, set_line.ascent, 255)
    return np.asarray(canvas) > 100


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_character_is_an_empty_box(script: str) -> None:
    text = SCRIPTS[script]
    assert uncovered(text) == ()
    for run in line(text, 32).runs:
        box = bytes(run.font.getmask("\U0010fffd"))
        for cluster in lettering._split(run.text.replace(" ", "")):
            ink = bytes(run.font.getmask(cluster, direction=run.direction))
            # Some fonts draw nothing at all for what they do not have.
            assert ink not in (box, b""), cluster


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_line_is_as_wide_as_its_ink_and_as_high(script: str) -> None:
    ink = drawn(SCRIPTS[script])
    assert ink.any()
    columns = np.flatnonzero(ink.any(0))
    # The picture has ten pixels more on each side, for strokes that lean out.
    assert columns[0] >= 5
    assert columns[-1] < ink.shape[1] - 5
    assert columns[-1] - columns[0] > 0.8 * (ink.shape[1] - 20)


def test_what_no_font_covers_is_written_by_its_numbers() -> None:
    assert uncovered(f"dog {MONGOLIAN} dog {MONGOLIAN}") == (
        "U+1828", "U+1823", "U+182C", "U+1820", "U+1822",
    )  # fmt: skip
    written = "".join(run.text for run in line(f"dog {MONGOLIAN} cat", 20).runs)
    assert written == "dog [U+1828 U+1823 U+182C U+1820 U+1822] cat"
    assert np.array_equal(drawn(MONGOLIAN), drawn("[U+1828 U+1823 U+182C U+1820 U+1822]"))
    assert uncovered("\x00\ud800\ue000") == ("U+0000", "U+D800", "U+E000")


def test_right_to_left_is_set_from_the_right() -> None:
    assert [run.direction for run in line("שלום", 20).runs] == ["rtl"]
    # Read from the left of the picture: the number in its own order, then the word before it.
    texts = [(run.text.strip(), run.direction) for run in line("שלום 12", 20).runs]
    assert texts == [("12", "ltr"), ("שלום", "rtl")]
    mixed = [run.text.strip() for run in line("red שלום עולם dog", 20).runs]
    assert [text for text in mixed if text] == ["red", "שלום עולם", "dog"]
    framed = [run.text.strip() for run in line("שלום dog עולם", 20).runs]
    assert [text for text in framed if text] == ["עולם", "dog", "שלום"]


def test_brackets_face_the_way_the_text_reads() -> None:
    text = drawn("(א)")
    mirrored = np.flatnonzero(text.any(0))
    left, right = text[:, mirrored[0]], text[:, mirrored[-1]]
    # An opening bracket is at the right and bulges to the right, so both ends are bulges.
    middle = text.shape[0] // 2
    assert left[middle - 6 : middle + 6].any()
    assert right[middle - 6 : middle + 6].any()


def test_arabic_letters_join_and_thai_marks_stack() -> None:
    joined = line("بببب", 40).width
    apart = sum(line("ب", 40).width for _ in range(4))
    assert joined < 0.8 * apart
    assert line("ก้", 40).width == pytest.approx(line("ก", 40).width, abs=1)


def test_han_is_drawn_as_the_language_of_the_line_draws_it() -> None:
    # U+76F4 differs between Japanese and simplified Chinese.
    japanese, chinese = line("直す", 40), line("直的", 40)
    first = [bytes(one.runs[0].font.getmask("直")) for one in (japanese, chinese)]
    assert first[0] != first[1]


def test_direction_marks_change_nothing() -> None:
    plain = [run.text for run in line("dog cat", 20).runs]
    assert [run.text for run in line("dog \u202ecat\u202c\u2066\u200f", 20).runs] == plain


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("width", [24, 60, 130])
def test_a_cut_line_fits_and_is_cut_between_clusters(script: str, width: int) -> None:
    text = SCRIPTS[script] * 3
    cut = line(text, 20, width)
    assert cut.width <= width
    parts = [part for run in cut.runs for part in lettering._split(run.text)]
    assert "…" in parts
    whole = set(lettering._split(" ".join(text.split())))
    assert set(parts) - {"…"} <= whole


def test_a_line_that_fits_is_not_cut() -> None:
    for text in SCRIPTS.values():
        width = line(text, 20).width
        assert line(text, 20, width).width == width
        assert line(text, 20, width - 1).width < width


def test_white_space_is_one_space_and_nothing_is_a_line_too() -> None:
    assert line("a \n\t b", 20) == line("a b", 20)
    for nothing in ("", " ", "\u200d"):
        assert line(nothing, 20).width == 0
        assert line(nothing, 20, 5).width == 0


def test_a_very_long_label_is_cut_quickly() -> None:
    assert line("слово " * 100_000, 20, 300).width <= 300


def test_lines_are_the_same_from_many_threads() -> None:
    expected = {text: drawn(text) for text in SCRIPTS.values()}
    lettering._font.cache_clear()
    work = list(SCRIPTS.values()) * 6
    with ThreadPoolExecutor(8) as pool:
        for text, picture in zip(work, pool.map(drawn, work), strict=True):
            assert np.array_equal(picture, expected[text])


@settings(max_examples=200, deadline=None)
@example("\u20f2\u11fd dog")  # not assigned, so without a direction
@given(st.text(max_size=30))
def test_any_text_is_a_line_that_can_be_cut(text: str) -> None:
    assert drawn(text).shape[0] > 0
    assert line(text, 20, 60).width <= 60
    uncovered(text)
