"""`limelight demo`: pictures of sticker world, said what is wanted, shown what was found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.text import Text

from limelight import Client, LimelightError, Render
from limelight.tasks import RenderKind
from services.cli import options
from services.cli.connection import local_stack
from services.cli.console import fail_call, out
from services.cli.local import Profile, build_arguments, fail_start, progress
from services.cli.stack import Stack, StartFailed
from services.cli.state import StackConfig
from services.cli.tables import show
from services.stickers.scenes import Placement, compose, save
from services.stickers.vocabulary import Vocabulary

_RENDERS: tuple[RenderKind, ...] = ("overlay", "spotlight", "cutout")


@dataclass(frozen=True, slots=True)
class Showpiece:
    """One picture of the demonstration.

    Attributes:
        name: of its files.
        instruction: what is asked of it.
        size: width and height in pixels.
        tones: colours above and below the horizon, RGB.
        horizon: as a fraction of the height.
        stickers: (concept, x, y, longer side), as fractions of the width, the height and the
            shorter side.
    """

    name: str
    instruction: str
    size: tuple[int, int]
    tones: tuple[tuple[int, int, int], tuple[int, int, int]]
    horizon: float
    stickers: tuple[tuple[str, float, float, float], ...]


SHOWPIECES = (
    Showpiece(
        "girl-and-dogs",
        "put the main subjects in the spotlight",
        (960, 640),
        ((150, 205, 235), (120, 170, 90)),
        0.55,
        (
            ("tree", 0.13, 0.34, 0.48),
            ("girl", 0.48, 0.55, 0.46),
            ("dog", 0.24, 0.76, 0.32),
            ("dog", 0.70, 0.78, 0.32),
            ("dog", 0.89, 0.64, 0.26),
            ("sunflower", 0.78, 0.32, 0.24),
        ),
    ),
    Showpiece(
        "fruit",
        "the second red apple from the left",
        (900, 600),
        ((240, 225, 200), (176, 130, 90)),
        0.5,
        (
            ("red apple", 0.14, 0.66, 0.28),
            ("banana", 0.31, 0.32, 0.34),
            ("red apple", 0.44, 0.70, 0.28),
            ("green apple", 0.66, 0.40, 0.28),
            ("red apple", 0.84, 0.66, 0.28),
        ),
    ),
    Showpiece(
        "street",
        "everything except the cars",
        (1000, 640),
        ((190, 215, 240), (150, 150, 155)),
        0.6,
        (
            ("house", 0.16, 0.34, 0.44),
            ("red car", 0.28, 0.80, 0.32),
            ("police officer", 0.53, 0.64, 0.36),
            ("red car", 0.78, 0.80, 0.32),
            ("bus", 0.82, 0.34, 0.34),
        ),
    ),
    Showpiece(
        "no-elephant",
        "the elephant",
        (800, 600),
        ((225, 215, 235), (200, 170, 190)),
        0.6,
        (("cat", 0.30, 0.62, 0.36), ("umbrella", 0.70, 0.50, 0.40)),
    ),
)


def demo(
    folder: Annotated[
        Path, typer.Option("--out", help="Where the pictures go.", file_okay=False)
    ] = Path("out/demo"),
    address: options.Address = None,
    name: options.Name = "default",
    state_dir: options.StateDir = None,
) -> None:
    """Draw a few pictures, ask for things in them, and show what was found.

    Uses the running stack, or starts one and stops it again. Writes each picture with its overlay,
    spotlight and cut-out.
    """
    console = out()
    with (
        _Connection(address, local_stack(state_dir, name), console) as where,
        Client(where) as client,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        for piece in SHOWPIECES:
            _present(client, where, piece, folder, console)


def draw(piece: Showpiece, path: Path) -> None:
    """Write the picture."""
    concepts = Vocabulary.load().by_name
    placements = [
        Placement(concepts[concept], (x, y), longer_side)
        for concept, x, y, longer_side in piece.stickers
    ]
    width, height = piece.size
    background = np.empty((height, width, 3), np.uint8)
    horizon = round(height * piece.horizon)
    background[:horizon], background[horizon:] = piece.tones
    save(compose(placements, background), path)


def _present(
    client: Client, address: str, piece: Showpiece, folder: Path, console: Console
) -> None:
    picture = folder / f"{piece.name}.png"
    draw(piece, picture)
    console.print()
    console.print(Text.assemble((picture.name, "bold"), "  ", (f"“{piece.instruction}”", "italic")))
    try:
        answer = client.segment(
            picture, piece.instruction, renders=[Render(kind) for kind in _RENDERS], timeout=300.0
        )
    except LimelightError as error:
        fail_call(error, address)
    show(answer, console)
    if answer.instances:
        for rendering in answer.renderings:
            rendering.save(folder / f"{piece.name}-{rendering.kind}.png")
        kinds = ", ".join(rendering.kind for rendering in answer.renderings)
        console.print(Text(f"wrote {folder / piece.name}-*.png: {kinds}", style="dim"))


class _Connection:
    """The address to talk to; a stack that had to be started for it is stopped at the end."""

    def __init__(self, address: str | None, stack: Stack, console: Console) -> None:
        self._address = address
        self._stack = stack
        self._console = console
        self._started = False

    def __enter__(self) -> str:
        if self._address is not None:
            return self._address
        config = StackConfig(
            name=self._stack.name,
            planner=build_arguments(Profile.TINY, "planner", None, None),
            segmenter=build_arguments(Profile.TINY, "segmenter", None, None),
        )
        try:
            with progress(self._console) as on_change:
                state, self._started = self._stack.start(config, on_change)
        except StartFailed as exc:
            fail_start(exc)
        except KeyboardInterrupt:
            self._stack.stop()
            raise
        return state.addresses["gateway"]

    def __exit__(self, *_: object) -> None:
        if self._started:
            self._stack.stop()
            self._console.print("\nstopped the stack that was started for this")
