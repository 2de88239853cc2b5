"""`limelight demo`: segments four drawn pictures from plain words and shows the results."""

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
from services.cli.starting import starting
from services.cli.tables import show
from services.local.models import stack_config
from services.local.stack import Stack

_RENDERS = (RenderKind.OVERLAY, RenderKind.SPOTLIGHT, RenderKind.CUTOUT)


# File name and instruction of each picture; `training.world.showpieces` drew them.
PICTURES = Path(__file__).parent / "pictures"
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
    """Segment four pictures from plain words, and show what was found.

    Uses the running stack, or starts one and stops it again. Writes each picture with its overlay,
    spotlight and cut-out.
    """
    console = out()
    with (
        _DemoStack(address, local_stack(state_dir, name), console) as where,
        Client(where) as client,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        for picture, instruction in SHOWPIECES.items():
            _present(client, where, picture, instruction, folder, console)


def _present(
    client: Client, address: str, name: str, instruction: str, folder: Path, console: Console
) -> None:
    picture = Path(shutil.copy(PICTURES / f"{name}.png", folder))
    console.print()
    console.print(Text.assemble((picture.name, "bold"), "  ", (f"“{instruction}”", "italic")))
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
