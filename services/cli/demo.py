"""`limelight demo`: four drawn pictures and a clip, from plain words to masks, and the results."""

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from limelight import Client, LimelightError, Render
from limelight.values import RenderKind
from services.cli import options
from services.cli.connection import local_stack
from services.cli.console import fail_call, out
from services.cli.following import TrackReport, follow
from services.cli.footage import footage_of
from services.cli.starting import starting
from services.cli.tables import show
from services.cli.tracked_files import TrackFiles, TrackFileWriter
from services.codecs.videos.selection import FrameSelection
from services.codecs.videos.sources import source_of
from services.local.models import stack_config
from services.local.stack import Stack

_RENDERS = (RenderKind.OVERLAY, RenderKind.SPOTLIGHT, RenderKind.CUTOUT)


# File name and instruction of each picture and of the clip; `training.world.showpieces` drew them.
PICTURES = Path(__file__).parent / "pictures"
CLIP = "walk.mp4"
CLIP_INSTRUCTION = "the dogs and the girl"
SHOWPIECES = {
    "girl-and-dogs": "put the main subjects in the spotlight",
    "fruit": "the second red apple from the left",
    "street": "everything except the cars",
    "no-elephant": "the elephant",
}


def demo(
    folder: Annotated[
        Path, typer.Option("--out", help="Where the pictures go.", file_okay=False)
    ] = Path("out/demo"),
    address: options.Address = None,
    name: options.Name = "default",
    state_dir: options.StateDir = None,
) -> None:
    """Segment four pictures and track a clip from plain words, and show what was found.

    Uses the running stack, or starts one and stops it again. Writes each picture with its overlay,
    spotlight and cut-out, and the clip with its overlay: a dog passes behind a house, another
    leaves and comes back.
    """
    console = out()
    with (
        _DemoStack(address, local_stack(state_dir, name), console) as where,
        Client(where) as client,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        for picture, instruction in SHOWPIECES.items():
            _present(client, where, picture, instruction, folder, console)
        _track(where, folder, console)


def _present(
    client: Client, address: str, name: str, instruction: str, folder: Path, console: Console
) -> None:
    picture = Path(shutil.copy(PICTURES / f"{name}.png", folder))
    console.print()
    console.print(_title(picture, instruction))
    try:
        answer = client.segment(
            picture, instruction, renders=[Render(kind) for kind in _RENDERS], timeout=300.0
        )
    except LimelightError as error:
        fail_call(error, address)
    show(answer, console)
    if answer.instances:
        for rendering in answer.renderings:
            rendering.save(folder / f"{name}-{rendering.kind}.png")
        kinds = ", ".join(rendering.kind for rendering in answer.renderings)
        console.print(Text(f"wrote {folder / name}-*.png: {kinds}", style="dim"))


def _track(address: str, folder: Path, console: Console) -> None:
    clip = Path(shutil.copy(PICTURES / CLIP, folder))
    console.print()
    console.print(_title(clip, CLIP_INSTRUCTION))
    overlay = clip.with_stem(f"{clip.stem}-overlay")
    footage = footage_of(source_of(str(clip)), FrameSelection(), drawn=True)
    report = TrackReport(console, quiet=False)
    writer = TrackFileWriter(TrackFiles(overlay=overlay), clip.stem)
    report.show(follow(address, footage, writer, report, console, CLIP_INSTRUCTION, {}))
    for path in writer.written:
        console.print(Text(f"wrote {path}", style="dim"))


def _title(file: Path, instruction: str) -> Text:
    return Text.assemble((file.name, "bold"), "  ", (f"“{instruction}”", "italic"))


class _DemoStack:
    """The address to talk to; a stack started for the demo is stopped at the end."""

    def __init__(self, address: str | None, stack: Stack, console: Console) -> None:
        self._address = address
        self._stack = stack
        self._console = console
        self._started = False

    def __enter__(self) -> str:
        if self._address is not None:
            return self._address
        try:
            with starting(self._console) as on_change:
                state, self._started = self._stack.start(stack_config(self._stack.name), on_change)
        except KeyboardInterrupt:
            self._stack.stop()
            raise
        return state.addresses["gateway"]

    def __exit__(self, *_: object) -> None:
        if self._started:
            self._stack.stop()
            self._console.print("\nstopped the stack that was started for this")
