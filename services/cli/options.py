"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar="LIMELIGHT_ADDRESS",
        metavar="HOST:PORT",
        help="A deployment to talk to. Default: the local stack.",
    ),
]
Name = Annotated[
    str,
    typer.Option(
        "--name", metavar="NAME", help="Name of the local stack; several can run side by side."
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
Threshold = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, metavar="0..1", help="Leave out instances below this score."),
]
Timeout = Annotated[
    float, typer.Option(min=0.001, metavar="SECONDS", help="Time limit of one picture.")
]
