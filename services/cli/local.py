"""`limelight up`, `down` and `status`: the local stack."""

import contextlib
import json
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli import options, processes
from services.cli.connection import local_stack
from services.cli.console import Exit, err, fail, out
from services.cli.health import check
from services.cli.stack import OnChange, Stack, StartFailed
from services.cli.state import Phase, StackConfig, StackState

UP_EXAMPLES = """
[bold]Examples[/bold]

  limelight up                         the checkpoints that ship with Limelight, on this machine

  limelight up --profile full          facebook/sam3 and google/gemma-4-E4B-it (a GPU, and access)

  limelight up --segmenter-model ./my-sam3 --planner-model google/gemma-4-E2B-it

  limelight up --engine fake           no models: rules, for trying the plumbing
"""


class Profile(StrEnum):
    """Which checkpoints."""

    TINY = "tiny"
    FULL = "full"


class Engine(StrEnum):
    """What runs them."""

    TRANSFORMERS = "transformers"
    FAKE = "fake"


# The tiny checkpoints are the services' own defaults.
_MODELS = {
    Profile.TINY: {"planner": "", "segmenter": ""},
    Profile.FULL: {"planner": "google/gemma-4-E4B-it", "segmenter": "facebook/sam3"},
}


def up(
    profile: Annotated[
        Profile,
        typer.Option(help="tiny: the checkpoints that ship with Limelight. full: the real ones."),
    ] = Profile.TINY,
    segmenter_model: Annotated[
        str | None,
        typer.Option(metavar="PATH|HUB_ID", help="A SAM 3 checkpoint of your own choice."),
    ] = None,
    planner_model: Annotated[
        str | None,
        typer.Option(metavar="PATH|HUB_ID", help="A Gemma 4 checkpoint of your own choice."),
    ] = None,
    engine: Annotated[
        Engine | None, typer.Option(help="What runs the models. fake: rules without models.")
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="The gateway's port; another if it is taken."
        ),
    ] = 50551,
    metrics_port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="Its /metrics; another port if it is taken."
        ),
    ] = 9464,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, and end the stack with Ctrl-C.")
    ] = False,
    name: options.Name = "default",
    state_dir: options.StateDir = None,
) -> None:
    """Start the local stack: Ray Serve with planner and segmenter, and the gateway.

    Everything listens on this machine only. If it runs already, that is said and all is well.
    """
    config = StackConfig(
        name=name,
        profile=profile.value,
        planner=build_arguments(profile, "planner", planner_model, engine),
        segmenter=build_arguments(profile, "segmenter", segmenter_model, engine),
        port=port,
        metrics_port=metrics_port,
    )
    stack, console = local_stack(state_dir, name), err()
    if foreground:
        _stay(stack, config, console)
        return
    try:
        with progress(console) as on_change:
            state, fresh = stack.start(config, on_change)
    except StartFailed as exc:
        fail_start(exc)
    except KeyboardInterrupt:
        stack.stop()
        raise typer.Exit(Exit.INTERRUPTED) from None
    if fresh:
        console.print(_ready(state), soft_wrap=True)
    else:
        console.print(
            f"already running at [bold]{state.addresses['gateway']}[/bold] "
            f"(profile {state.config.profile}); `limelight down` ends it",
            soft_wrap=True,
        )
        if (state.config.planner, state.config.segmenter) != (config.planner, config.segmenter):
            console.print("[yellow]it runs other models than asked for here: end it first[/yellow]")


def build_arguments(
    profile: Profile, service: str, model: str | None, engine: Engine | None
) -> dict[str, str]:
    """The arguments of a service's `build`; what is left out is the service's own setting."""
    arguments = {}
    if model is not None:
        arguments["model"] = _checkpoint(model)
    elif named := _MODELS[profile][service]:
        arguments["model"] = named
    if engine is not None:
        arguments["engine"] = engine.value
    return arguments


def _checkpoint(model: str) -> str:
    """A folder, made absolute since replicas run elsewhere, or else a hub id as it is."""
    path = Path(model).expanduser()
    if path.exists():
        return str(path.resolve())
    if model.startswith(("/", ".", "~")):
        fail(f"there is no checkpoint at {model}", Exit.USAGE)
    return model


def down(
    name: options.Name = "default",
    state_dir: options.StateDir = None,
) -> None:
    """End the local stack, if one runs."""
    console = err()
    stack = local_stack(state_dir, name)
    with console.status("stopping") if console.is_terminal else contextlib.nullcontext():
        stopped = stack.stop()
    console.print("stopped" if stopped else "nothing was running")


def status(
    as_json: options.AsJson = False,
    address: options.Address = None,
    name: options.Name = "default",
    state_dir: options.StateDir = None,
) -> None:
    """Show what runs, where, and whether it is healthy.

    Ends with 0 if all is well, 1 if something is not, 3 if no stack runs.
    """
    if address is not None:
        _show_remote(address, as_json)
        return
    state = local_stack(state_dir, name).running()
    if state is None:
        if as_json:
            typer.echo(json.dumps({"name": name, "phase": "stopped", "services": []}))
            raise typer.Exit(Exit.NO_STACK)
        fail("no local stack is running", Exit.NO_STACK, "start one with: limelight up")
    report = describe(state)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _show(report)
    healthy = all(service["health"] == "serving" for service in report["services"])
    raise typer.Exit(Exit.OK if healthy else Exit.FAILED)


def describe(state: StackState) -> dict[str, Any]:
    """A running stack in plain values, its health asked just now."""
    gateway = state.addresses.get("gateway", "")
    whole = check(gateway, "limelight.v1.LimelightService") if gateway else "starting"
    models = "serving" if whole == "serving" else _serve_health(state)
    services = [
        _service(state, "gateway", "gateway", gateway, check(gateway) if gateway else "starting"),
        _service(state, "planner", "serve", state.addresses.get("serve", ""), models),
        _service(state, "segmenter", "serve", state.addresses.get("serve", ""), models),
    ]
    return {
        "name": state.config.name,
        "phase": state.phase.value,
        "stage": state.stage,
        "profile": state.config.profile,
        "address": gateway,
        "metrics": state.addresses.get("metrics", ""),
        "uptime_s": round(processes.uptime_s(state.supervisor), 1),
        "ready_s": state.ready_s,
        "gateway_restarts": state.restarts,
        "services": services,
        "versions": state.versions,
    }


@contextlib.contextmanager
def progress(console: Console) -> Iterator[OnChange]:
    """Shows a start's stages: a spinner on a terminal, else a line a stage."""
    started = time.monotonic()
    last = ""

    def line(state: StackState) -> None:
        nonlocal last
        if state.stage and state.stage != last:
            console.print(f"{time.monotonic() - started:5.1f} s  {state.stage}")
            last = state.stage

    if not console.is_terminal:
        yield line
        return
    with console.status("starting"):
        yield line


def fail_start(failure: StartFailed) -> NoReturn:
    """Show why a stack did not start, with the end of its log."""
    if failure.log:
        console = err()
        console.rule(f"end of {failure.log_path}", style="dim")
        console.print(Text(failure.log), soft_wrap=True)
        console.rule(style="dim")
    fail(str(failure))


def _stay(stack: Stack, config: StackConfig, console: Console) -> None:
    started = False

    def on_change(state: StackState) -> None:
        nonlocal started
        if state.phase is Phase.READY and not started:
            started = True
            console.print(_ready(state), soft_wrap=True)
            console.print("[dim]Ctrl-C ends it[/dim]")
        elif state.stage:
            show(state)

    try:
        with progress(console) as show:
            stack.run(config, on_change)
    except StartFailed as exc:
        fail_start(exc)
    console.print("stopped")


def _ready(state: StackState) -> Text:
    return Text.assemble(
        ("ready", "bold green"),
        f" in {state.ready_s:.1f} s at ",
        (state.addresses["gateway"], "bold"),
        f"  (metrics http://{state.addresses['metrics']}/metrics)",
    )


def _service(
    state: StackState, name: str, process: str, address: str, health: str
) -> dict[str, Any]:
    ref = state.processes.get(process)
    arguments = {"planner": state.config.planner, "segmenter": state.config.segmenter}.get(name, {})
    model = arguments.get("model") or ("shipped tiny checkpoint" if name != "gateway" else "")
    if arguments.get("engine") == Engine.FAKE:
        model = "fake engine"
    return {
        "name": name,
        "health": health,
        "address": address,
        "model": model,
        "pid": ref.pid if ref and ref.alive else None,
    }


def _serve_health(state: StackState) -> str:
    if state.phase is Phase.STARTING:
        return "starting"
    ref = state.processes.get("serve")
    return "not serving" if ref is not None and ref.alive else "dead"


def _show(report: dict[str, Any]) -> None:
    console = out()
    minutes, seconds = divmod(int(report["uptime_s"]), 60)
    hours, minutes = divmod(minutes, 60)
    console.print(
        f"stack [bold]{report['name']}[/bold] ({report['profile']}) is {report['phase']}, "
        f"up {hours}:{minutes:02}:{seconds:02}"
    )
    console.print(_table(report["services"]))
    if report["metrics"]:
        console.print(f"[dim]metrics[/dim] http://{report['metrics']}/metrics")


def _show_remote(address: str, as_json: bool) -> None:
    services = [
        {"name": "gateway", "health": check(address), "address": address},
        {
            "name": "limelight.v1.LimelightService",
            "health": check(address, "limelight.v1.LimelightService"),
            "address": address,
        },
    ]
    if as_json:
        typer.echo(json.dumps({"address": address, "services": services}, indent=2))
    else:
        out().print(_table(services))
    if all(service["health"] == "serving" for service in services):
        raise typer.Exit(Exit.OK)
    unreachable = all(service["health"] == "unreachable" for service in services)
    raise typer.Exit(Exit.NO_STACK if unreachable else Exit.FAILED)


def _table(services: list[dict[str, Any]]) -> Table:
    columns = [key for key in ("name", "health", "address", "model", "pid") if key in services[0]]
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for service in services:
        colour = {"serving": "green", "starting": "yellow"}.get(service["health"], "red")
        table.add_row(
            *(
                Text(str(service[key] or ""), style=colour if key == "health" else "")
                for key in columns
            )
        )
    return table
