"""Options that several commands share."""

import math
import re
from pathlib import Path
from typing import Annotated

import typer

from limelight.targets import check_target

# The folder of a stack's state is called like it.
_NAME = re.compile(r"(?!\.)[\w.-]{1,64}")


def _address(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return check_target(value)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise typer.BadParameter(
            f"a name is 1 to 64 letters, digits, '_', '-' or '.', and does not begin with '.', "
            f"not {value!r}"
        )
    return value


def finite(value: float | None) -> float | None:
    """The number of an option; NaN is within every range, as click compares, and refused here."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar="LIMELIGHT_ADDRESS",
        metavar="HOST:PORT",
        callback=_address,
        help="A deployment to talk to. Default: the local stack.",
    ),
]
Name = Annotated[
    str,
    typer.Option(
        "--name",
        metavar="NAME",
        callback=_name,
        help="Name of the local stack; several can run side by side.",
    ),
]
StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        envvar="LIMELIGHT_STATE_DIR",
        metavar="DIR",
        help="Folder of the local stacks' state and logs. Default: per user.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Instruction = Annotated[
    str | None,
    typer.Argument(metavar="[INSTRUCTION]", help="What you want, in plain words."),
]
Phrases = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PHRASE", help="A noun phrase instead of an instruction; may be repeated."
    ),
]
Review = Annotated[
    bool | None,
    typer.Option(
        "--review/--no-review",
        help="Whether the planner looks at the candidates. Default: as its plan says.",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        metavar="0..1",
        callback=finite,
        help="Leave out instances below this score.",
    ),
]
AcceptDamaged = Annotated[
    bool,
    typer.Option(
        "--accept-damaged",
        help="Take what is left of a picture that has lost pixels, with a warning in the answer.",
    ),
]
Timeout = Annotated[
    float,
    typer.Option(min=0.001, metavar="SECONDS", callback=finite, help="Time limit of one picture."),
]
