"""The demo's pictures and its clip: ``python -m training.world.showpieces`` draws them.

Run once, when one of them changes; the files are committed beside `services.cli.demo`, which shows
them, so that the demo needs no training code.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limelight.masks import encode_rle
from services.cli import demo, verify
from training.world.casting import ShotPlan, Track
from training.world.clip_files import write_mp4
from training.world.clips import Clip, ClipObject
from training.world.scenes import Placement, Scene, compose, save
from training.world.splits import SHOWN
from training.world.vocabulary import Vocabulary

Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Showpiece:
    """One picture of the demo.

    Attributes:
        name: of its file.
        size: width and height in pixels.
        sky, ground: colors above and below the horizon, RGB.
        horizon: as a fraction of the height.
        stickers: a line each: concept, x, y, longer side, as fractions of the width, the height
            and the shorter side.
    """

    name: str
    size: tuple[int, int]
    sky: Color
    ground: Color
    horizon: float
    stickers: str


SHOWPIECES = (
    Showpiece(
        "girl-and-dogs",
        (960, 640),
        (150, 205, 235),
        (120, 170, 90),
        0.55,
        """tree 0.13 0.34 0.48
        girl 0.48 0.55 0.46
        dog 0.24 0.76 0.32
        dog 0.70 0.78 0.32
        dog 0.89 0.64 0.26
        sunflower 0.78 0.32 0.24""",
    ),
    Showpiece(
        "fruit",
        (900, 600),
        (240, 225, 200),
        (176, 130, 90),
        0.5,
        """red apple 0.14 0.66 0.28
        banana 0.31 0.32 0.34
        red apple 0.44 0.70 0.28
        green apple 0.66 0.40 0.28
        red apple 0.84 0.66 0.28""",
    ),
    Showpiece(
        "street",
        (1000, 640),
        (190, 215, 240),
        (150, 150, 155),
        0.6,
        """house 0.16 0.34 0.44
        red car 0.28 0.80 0.32
        police officer 0.53 0.64 0.36
        red car 0.78 0.80 0.32
        bus 0.82 0.34 0.34""",
    ),
    Showpiece(
        "no-elephant",
        (800, 600),
        (225, 215, 235),
        (200, 170, 190),
        0.6,
        """cat 0.30 0.62 0.36
        umbrella 0.70 0.50 0.40""",
    ),
)


CLIP_SIZE = 640, 400
CLIP_FRAMES, CLIP_RATE = 60, 15.0
# Bottom to top: concept, longer side as a share of the shorter side, and where it is at which
# frame, as shares of the width and the height.
CLIP_CAST = (
    ("dog", 0.28, {0: (0.10, 0.76), 59: (0.90, 0.74)}),
    ("house", 0.36, {0: (0.48, 0.68), 59: (0.48, 0.68)}),
    ("girl", 0.36, {0: (0.84, 0.30), 30: (0.76, 0.26), 59: (0.82, 0.34)}),
    ("dog", 0.26, {0: (0.22, 0.30), 14: (-0.14, 0.26), 34: (-0.14, 0.34), 59: (0.26, 0.36)}),
)


def walk() -> Clip:
    """The demo's clip: one dog passes behind a house, another leaves the frame and comes back."""
    concepts = Vocabulary.load().by_name
    width, height = CLIP_SIZE
    times = np.arange(CLIP_FRAMES)
    tracks = []
    for number, (name, side, stops) in enumerate(CLIP_CAST, 1):
        at = list(stops)
        path = [np.interp(times, at, [stops[stop][axis] for stop in at]) for axis in (0, 1)]
        still = name == "house"
        tracks.append(
            Track(
                id=number,
                concept=concepts[name],
                centers=np.stack(path, axis=1) * CLIP_SIZE,
                longer_side=np.full(CLIP_FRAMES, side * height),
                degrees=np.zeros(CLIP_FRAMES) if still else 7.0 * np.sin(0.9 * times + number),
                brightness=np.ones(CLIP_FRAMES),
                mirrored=number == 1,
            )
        )
    shot = ShotPlan(
        first=0,
        scenery=0,
        camera=np.zeros((CLIP_FRAMES, 2), np.int64),
        light=np.ones(CLIP_FRAMES),
        tracks=tuple(tracks),
    )
    members = tuple(ClipObject(track.id, track.concept.name) for track in tracks)
    return Clip(
        seed=SHOWN[19],
        width=width,
        height=height,
        rate=CLIP_RATE,
        frame_count=CLIP_FRAMES,
        objects=members,
        cuts=(),
        shots=(shot,),
        backgrounds=("horizon",),
    )


def draw(piece: Showpiece, path: Path) -> Scene:
    """Write the picture; what is in it is where its line says."""
    concepts = Vocabulary.load().by_name
    placements = []
    for line in piece.stickers.splitlines():
        name, x, y, side = line.strip().rsplit(" ", 3)
        placements.append(Placement(concepts[name], (float(x), float(y)), float(side)))
    width, height = piece.size
    background = np.empty((height, width, 3), np.uint8)
    horizon = round(height * piece.horizon)
    background[:horizon], background[horizon:] = piece.sky, piece.ground
    scene = compose(placements, background)
    save(scene, path)
    return scene


def truth(scene: Scene) -> dict[str, list[dict[str, Any]]]:
    """The visible masks by concept, from left to right, as COCO's compressed run lengths."""
    found: dict[str, list[dict[str, Any]]] = {}
    for instance in sorted(scene.instances, key=lambda one: one.box[0]):
        rle = encode_rle(instance.mask)
        mask = {"size": list(rle.size), "counts": rle.counts.decode()}
        found.setdefault(instance.concept.name, []).append(mask)
    return found


def main() -> None:
    """Draw every picture and the clip into a folder, by default the demo's own."""
    parser = argparse.ArgumentParser(description="Draw the demo's pictures and its clip.")
    parser.add_argument("--out", type=Path, default=demo.PICTURES)
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for piece in SHOWPIECES:
        scene = draw(piece, folder / f"{piece.name}.png")
        if piece.name == verify.PICTURE:
            (folder / f"{piece.name}.json").write_text(json.dumps(truth(scene)) + "\n")
    write_mp4(walk(), folder / demo.CLIP)


if __name__ == "__main__":
    main()
