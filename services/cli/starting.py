"""What a command shows while a stack starts, and when it does not."""

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from services.cli.console import fail
from services.local.stack import OnChange, StartFailed
from services.local.state import StackState


@contextlib.contextmanager
def starting(console: Console) -> Iterator[OnChange]:
    """Show a start's stages, a line each, with a spinner on a terminal.

    A `StartFailed` ends the command with its reason and the end of its log.
    """
    began = time.monotonic()
    last = ""

    def on_change(state: StackState) -> None:
        nonlocal last
        if state.stage and state.stage != last:
            console.print(f"{time.monotonic() - began:5.1f} s  {state.stage}")
            last = state.stage

    try:
        with console.status("starting") if console.is_terminal else contextlib.nullcontext():
            yield on_change
    except StartFailed as failure:
        if failure.log:
            console.rule(f"end of {failure.log_path}", style="dim")
            console.print(Text(failure.log), soft_wrap=True)
            console.rule(style="dim")
        fail(str(failure))
