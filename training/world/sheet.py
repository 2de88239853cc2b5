"""Renders the sprite sheet from the font: ``python -m training.world.sheet``.

Run once, when the vocabulary or the font changes; its result, ``data/sprites.png``, is
committed, so that nothing else needs the font. Needs Debian's ``fonts-noto-color-emoji`` and
a Pillow with libraqm (joined emoji such as the cook are ligatures).
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features

from training.world.sprites import CELL, COLUMNS
from training.world.vocabulary import Vocabulary

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
STRIKE = 109  # the only bitmap size in the font, in pixels per em


def render_sheet(vocabulary: Vocabulary, font_path: Path) -> Image.Image:
    """All glyphs, each cropped to its opaque pixels and centered in its cell (RGBA)."""
    if not features.check("raqm"):
        raise RuntimeError("this Pillow lacks libraqm, which joins emoji sequences")
    font = ImageFont.truetype(font_path, STRIKE, layout_engine=ImageFont.Layout.RAQM)
    rows = -(-len(vocabulary.concepts) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * CELL, rows * CELL))
    for concept in vocabulary.concepts:
        glyph = _glyph(concept.emoji, font)
        row, column = divmod(concept.index, COLUMNS)
        left = column * CELL + (CELL - glyph.width) // 2
        top = row * CELL + (CELL - glyph.height) // 2
        sheet.paste(glyph, (left, top))
    return sheet


def _glyph(emoji: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    canvas = Image.new("RGBA", (4 * CELL, 2 * CELL))
    ImageDraw.Draw(canvas).text((CELL // 2, CELL // 4), emoji, font=font, embedded_color=True)
    glyph = canvas.crop(canvas.getchannel("A").getbbox())
    if max(glyph.size) > CELL:
        raise RuntimeError(f"{emoji!r} is drawn as several glyphs: the font has no ligature")
    return glyph


def main() -> None:
    """Write the sheet to the file named on the command line, by default the package's own."""
    parser = argparse.ArgumentParser(description="Render the sprite sheet of sticker world.")
    parser.add_argument("--font", type=Path, default=FONT)
    default = Path(__file__).parent / "data" / "sprites.png"
    parser.add_argument("--out", type=Path, default=default)
    arguments = parser.parse_args()
    render_sheet(Vocabulary.load(), arguments.font).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
