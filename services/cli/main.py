"""The `limelight` command, assembled."""

from importlib import metadata
from typing import Annotated

import typer

from services.cli import batch, demo, segment, stack, track, verify

app = typer.Typer(
    name="limelight",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""
[bold]Begin[/bold]

  limelight up

  limelight segment photo.jpg "put the main subjects in the spotlight" --spotlight out.png

[bold]Exit codes[/bold]

  0 done · 1 something failed · 2 wrong usage · 3 no stack answers · 130 interrupted
""",
)
app.command("up", epilog=stack.UP_EXAMPLES)(stack.up)
app.command("down")(stack.down)
app.command("status")(stack.status)
app.command("segment", epilog=segment.EXAMPLES)(segment.segment)
app.command("track", epilog=track.EXAMPLES)(track.track)
app.command("batch", epilog=batch.EXAMPLES)(batch.batch)
app.command("demo")(demo.demo)
app.command("verify")(verify.verify)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"limelight {metadata.version('limelight')}")
        raise typer.Exit


@app.callback()
def limelight(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """Say what you want in plain words, get pixel-exact masks."""


if __name__ == "__main__":
    app()
