"""Output streams and exit codes of the command.

Answers go to standard output, everything else (progress, warnings, errors) to standard error, so a
pipe carries answers alone. rich prints no colors when the stream is not a terminal or NO_COLOR is
set.
"""

from enum import IntEnum
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

from limelight import LimelightError
from limelight.faults import Reason


class Exit(IntEnum):
    """The command's exit codes."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_STACK = 3
    INTERRUPTED = 130


def out() -> Console:
    """Standard output as it is now; lines wrap only on a terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
        console.soft_wrap = True
    return console


def err() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False)


def fail(message: str, code: Exit = Exit.FAILED, hint: str = "") -> NoReturn:
    """Print what went wrong and end the command with `code`."""
    console = err()
    console.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    if hint:
        console.print(Text(hint, style="dim"), soft_wrap=True)
    raise typer.Exit(code)


def fail_call(error: LimelightError, address: str) -> NoReturn:
    """Print why a call failed and end the command.

    The exit code is `NO_STACK` where nothing answers, else `FAILED`.
    """
    if error.unreachable:
        hint = "to go there without it, name the host in no_proxy"
        fail(
            f"nothing answers at {address}: {error.message}",
            Exit.NO_STACK,
            hint if error.proxy else "start a local stack: limelight up",
        )
    code = error.code.name
    label = f"{code} ({error.reason})" if error.reason else code
    where = f" [{error.field}]" if error.field else ""
    if error.reason == Reason.TRACKER_ABSENT:
        fail(
            f"{label}: {error.message}",
            hint="start one with a tracker: limelight up --tracker-model facebook/sam3",
        )
    fail(f"{label}: {error.message}{where}", hint=f"request id {error.request_id}")
