"""Labels in every script, drawn on an overlay: each letter by a font that has it.

Tried through `render.overlay`, whose tags are then looked for empty boxes: the pictures of letters
that differ must differ, and a character that no font covers must look as its number does.
"""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from services.codecs import lettering, render
from services.codecs.images import encode
from tests.odd.case import Case

# Two words a script, of as many letters, so that boxes would look alike.
WORDS = {
    "Latin with accents": ("žluťák", "ñandúé"),
    "Vietnamese": ("Ưởng", "Việt"),
    "Greek": ("σκύλος", "μήλοςα"),
    "Cyrillic": ("собака", "яблоко"),
    "Armenian": ("շունը", "խնձոր"),
    "Georgian": ("ძაღლი", "ვაშლი"),
    "Hebrew": ("כלבים", "תפוחי"),
    "Arabic": ("تفاحة", "كلابي"),
    "Persian with a joiner": ("سگ‌ها", "گل‌ها"),
    "Urdu": ("کتابیں", "بچوںکا"),
    "Devanagari": ("सेब", "कुत"),
    "Bengali": ("কুকুর", "আপেল"),
    "Gurmukhi": ("ਸੇਬ", "ਕੁਤ"),
    "Gujarati": ("કૂતરો", "સફરજ"),
    "Tamil": ("நாய்", "கோழி"),
    "Telugu": ("కుక్క", "ఆపిల్"),
    "Kannada": ("ನಾಯಿ", "ಸೇಬು"),
    "Malayalam": ("നായ", "പഴം"),
    "Sinhala": ("බල්ලා", "ඇපල්"),
    "Thai": ("หมา", "ส้ม"),
    "Lao": ("ໝາ", "ສົ້ມ"),
    "Khmer": ("ឆ្កែ", "ប៉ោម"),
    "Myanmar": ("ခွေး", "ပန်း"),
    "Ethiopic": ("ውሻን", "ፖምን"),
    "Chinese, simplified": ("红苹果", "两只狗"),
    "Chinese, traditional": ("紅蘋果", "兩隻狗"),
    "Japanese": ("りんご", "ねこ犬"),
    "Korean": ("강아지", "사과를"),
    "emoji": ("🐶", "🍎"),
    "emoji of several characters": ("👩‍👩‍👧", "🏳️‍🌈"),
    "flags": ("🇫🇷", "🇯🇵"),
}
UNCOVERED = {
    "Mongolian": ("ᠨᠣᠬᠠᠢ", "[U+1828 U+1823 U+182C U+1820 U+1822]"),
    "Coptic": ("ⲟⲩϩⲟⲣ", "[U+2C9F U+2CA9 U+03E9 U+2C9F U+2CA3]"),
    "Cuneiform": ("𒌨", "[U+12328]"),
    "private use": ("\ue000", "[U+E000]"),
    "a character of the future": ("\U000e0fff", ""),
}


def cases() -> list[Case]:
    """The area's cases."""
    drawn = "drawn, letter by letter"
    found = [
        Case(f"labels in {script}", drawn, partial(_see_words, *words))
        for script, words in WORDS.items()
    ]
    found.append(
        Case("one label in three scripts", drawn, partial(_see_words, "dog 犬 כלב", "cat 猫 חתו"))
    )
    found += [
        Case(
            f"a label in {script}, which no font covers",
            f"drawn as {numbers}" if numbers else "nothing is drawn for it",
            partial(_see_numbers, text, numbers),
        )
        for script, (text, numbers) in UNCOVERED.items()
    ]
    found += [
        Case("Hebrew, then a number", "from the left: 12, שלום", partial(_see_order, "שלום 12")),
        Case(
            "Hebrew in English",
            "from the left: red, שלום עולם, dog",
            partial(_see_order, "red שלום עולם dog"),
        ),
        Case(
            "English in Arabic",
            "from the left: حمراء, apple, تفاحة",
            partial(_see_order, "تفاحة apple حمراء"),
        ),
        Case(
            "a label with an override of its direction",
            "from the left: dog cat",
            partial(_see_order, "dog \u202ecat\u202c"),
        ),
    ]
    found += [
        Case(
            f"a label in {script}, three times too long",
            "fits, cut between letters",
            partial(_see_cut, " ".join(words) * 3),
        )
        for script, words in WORDS.items()
    ]
    return found


def tag(label: str) -> np.ndarray:
    """The tag of `label` on an overlay: gray levels of the rows above the thing."""
    rgb = np.full((160, 640, 3), 128, np.uint8)
    mask = np.zeros((160, 640), np.bool_)
    mask[100:150, 40:600] = True
    return render.overlay(rgb, [mask], [label]).min(axis=2)[:95].astype(int)


def _see_words(one: str, other: str, folder: Path) -> str:
    pictures = [tag(one), tag(other)]
    for number, picture in enumerate(pictures):
        (folder / f"{number}.png").write_bytes(encode(np.dstack([picture.astype(np.uint8)] * 3)))
    if missing := lettering.uncovered(one + other):
        return f"no font for {', '.join(missing)}"
    if np.array_equal(*pictures):
        return "two words look alike"
    boxes = [_box_like(cluster) for word in (one, other) for cluster in word if cluster.isalpha()]
    if any(boxes):
        return f"{sum(boxes)} letters are drawn as boxes"
    return "drawn, letter by letter"


def _box_like(letter: str) -> bool:
    """Whether a letter's tag looks like that of a character that is certainly in no font."""
    return np.array_equal(tag(letter), tag("\U0010fffd"))


def _see_numbers(text: str, numbers: str, folder: Path) -> str:
    if not numbers:
        return "nothing is drawn for it" if _is_blank(text) else "something is drawn"
    if np.array_equal(tag(text), tag(numbers)):
        return f"drawn as {numbers}"
    return "drawn otherwise"


def _is_blank(text: str) -> bool:
    image = Image.fromarray(tag(f"dog{text}").astype(np.uint8))
    return image.tobytes() == Image.fromarray(tag("dog").astype(np.uint8)).tobytes()


def _see_order(text: str, folder: Path) -> str:
    runs = [run.text.strip() for run in lettering.line(text, 20).runs]
    return "from the left: " + ", ".join(run for run in runs if run)


def _see_cut(text: str, folder: Path) -> str:
    width = 0.4 * lettering.line(text, 20).width
    cut = lettering.line(text, 20, width)
    if cut.width > width:
        return f"{cut.width - width:.0f} pixels too wide"
    shown = "".join(run.text for run in cut.runs)
    if "…" not in shown:
        return "cut without a sign"
    whole = lettering._split(text)
    parts = [part for part in lettering._split(shown) if part != "…"]
    return "fits, cut between letters" if set(parts) <= set(whole) else "cut within a letter"
