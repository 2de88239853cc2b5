"""`limelight up`, `down` and `status`: the local stack."""

import contextlib
import dataclasses
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli import options
from services.cli.connection import fail_without_stack, fault_line, local_stack
from services.cli.console import Exit, err, fail, out
from services.cli.starting import starting
from services.codecs import strict_json
from services.errors import CheckpointError
from services.local.description import describe, describe_remote
from services.local.models import CheckpointProfile, StackEngine, stack_config
from services.local.ports import LOOPBACK
from services.local.stack import Stack
from services.local.state import (
    Phase,
    StackConfig,
    StackFault,
    StackState,
    default_root,
    numbered,
    running_names,
)

UP_EXAMPLES = """
[bold]Examples[/bold]

  limelight up                         the checkpoints that ship with Limelight, on this machine

  limelight up --profile full          facebook/sam3 and google/gemma-4-E4B-it (a GPU, and access)

  limelight up --segmenter-model ./my-sam3 --planner-model google/gemma-4-E2B-it

  limelight up --engine fake           no models: rules, for trying the plumbing
"""


def up(
    profile: Annotated[
        CheckpointProfile,
        typer.Option(help="tiny: the checkpoints that ship with Limelight. full: the real ones."),
    ] = CheckpointProfile.TINY,
    segmenter_model: Annotated[
        str | None,
        typer.Option(metavar="PATH|HUB_ID", help="A SAM 3 checkpoint."),
    ] = None,
    tracker_model: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|HUB_ID",
            help="A SAM 3 checkpoint that tracks, for videos (facebook/sam3 has both). Beside a "
            "--segmenter-model, the tiny profile takes no videos without it.",
        ),
    ] = None,
    planner_model: Annotated[
        str | None,
        typer.Option(metavar="PATH|HUB_ID", help="A Gemma 4 checkpoint."),
    ] = None,
    engine: Annotated[
        StackEngine | None, typer.Option(help="What runs the models. fake: rules without models.")
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Where the gateway listens. 0.0.0.0: on every interface, for whoever reaches it.",
        ),
    ] = LOOPBACK,
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
    gateways: Annotated[
        int,
        typer.Option(
            min=1,
            max=8,
            metavar="N",
            help="Gateways that share the port: while one ends, drains or is started again, others "
            "answer. Each takes about 90 MB. A video that is cut goes on at its own gateway alone, "
            "unless they share a Redis (LIMELIGHT_GATEWAY_REDIS_URL).",
        ),
    ] = 1,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, and end the stack with Ctrl-C.")
    ] = False,
    name: options.Name = "default",
    state_dir: options.StateDir = None,
) -> None:
    """Start the local stack: Ray Serve with the models, and the gateway or several.

    Everything listens on loopback only, but for the gateway with --host. A stack that runs already
    is left as it is.
    """
    try:
        config = dataclasses.replace(
            stack_config(
                name,
                profile,
                planner_model=planner_model,
                segmenter_model=segmenter_model,
                tracker_model=tracker_model,
                engine=engine,
            ),
            host=host,
            port=port,
            metrics_port=metrics_port,
            gateways=gateways,
        )
    except CheckpointError as exc:
        fail(str(exc), Exit.USAGE)
    stack, console = local_stack(state_dir, name), err()
    if foreground:
        _stay(stack, config, console)
        return
    try:
        with starting(console) as on_change:
            state, fresh = stack.start(config, on_change)
    except KeyboardInterrupt:
        stack.stop()
        raise typer.Exit(Exit.INTERRUPTED) from None
    except OSError as exc:  # the folder of its state
        fail(str(exc), Exit.USAGE)
    if fresh:
        console.print(_ready(state), soft_wrap=True)
    else:
        console.print(
            f"already running at [bold]{state.addresses['gateway']}[/bold] "
            f"(profile {state.config.profile}); `limelight down` ends it",
            soft_wrap=True,
        )
        if state.config.services != config.services:
            console.print("[yellow]it runs other models than asked for here: end it first[/yellow]")


def down(
    name: options.Name = "default",
    state_dir: options.StateDir = None,
) -> None:
    """End the local stack, if one runs."""
    console = err()
    stack = local_stack(state_dir, name)
    with console.status("stopping") if console.is_terminal else contextlib.nullcontext():
        stopped = stack.stop()
    if stopped:
        console.print("stopped")
        return
    others = running_names(state_dir or default_root())
    named = f" under the name {name!r}; running: {', '.join(others)}" if others else ""
    console.print(Text(f"nothing was running{named}"), soft_wrap=True)


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
            others = running_names(state_dir or default_root())
            failure = local_stack(state_dir, name).folder.last_failure()
            stopped = {
                "name": name,
                "phase": "stopped",
                "services": [],
                "running": others,
                "fault": None if failure is None else dataclasses.asdict(failure),
            }
            typer.echo(strict_json.dumps(stopped))
            raise typer.Exit(Exit.NO_STACK)
        fail_without_stack(state_dir, name)
    report = describe(state)
    if as_json:
        typer.echo(strict_json.dumps(report, indent=2))
    else:
        _show(report)
    healthy = all(service["health"] == "serving" for service in report["services"])
    raise typer.Exit(Exit.OK if healthy else Exit.FAILED)


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

    with starting(console) as show:
        stack.run(config, on_change)
    console.print("stopped")


def _ready(state: StackState) -> Text:
    numbers = range(1, state.config.gateways + 1)
    metrics = " and ".join(
        f"http://{state.addresses[numbered('metrics', number)]}/metrics" for number in numbers
    )
    return Text.assemble(
        ("ready", "bold green"),
        f" in {state.ready_s:.1f} s at ",
        (state.addresses["gateway"], "bold"),
        f"  (metrics {metrics}, Ray's http://{state.addresses['ray_metrics']}/metrics)",
    )


def _show(report: dict[str, Any]) -> None:
    console = out()
    minutes, seconds = divmod(int(report["uptime_s"]), 60)
    hours, minutes = divmod(minutes, 60)
    console.print(
        f"stack [bold]{report['name']}[/bold] ({report['profile']}) is {report['phase']}, "
        f"up {hours}:{minutes:02}:{seconds:02}{report['stage'] and ': '}{report['stage']}"
    )
    console.print(_table(report["services"]))
    if report["fault"] is not None:
        told = ", ".join(f"{name} {count}" for name, count in report["restarts"].items() if count)
        line = f"{fault_line(StackFault(**report['fault']))} (started again: {told or 'nothing'})"
        console.print(Text(line, style="yellow"), soft_wrap=True)
    several = len(report["gateway_metrics"]) > 1
    shown = {
        f"metrics of {name}" if several else "metrics": address
        for name, address in report["gateway_metrics"].items()
    }
    for what, address in (*shown.items(), ("metrics of the models, by Ray", report["ray_metrics"])):
        if address:
            console.print(f"[dim]{what}[/dim] http://{address}/metrics")


def _show_remote(address: str, as_json: bool) -> None:
    report = describe_remote(address)
    services = report["services"]
    if as_json:
        typer.echo(strict_json.dumps(report, indent=2))
    else:
        out().print(_table(services))
        if report["proxy"]:
            out().print(Text(f"through the proxy {report['proxy']}", style="dim"))
    if all(service["health"] == "serving" for service in services):
        raise typer.Exit(Exit.OK)
    unreachable = all(service["health"] == "unreachable" for service in services)
    raise typer.Exit(Exit.NO_STACK if unreachable else Exit.FAILED)


def _table(services: list[dict[str, Any]]) -> Table:
    columns = [key for key in ("name", "health", "address", "model", "pid") if key in services[0]]
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for service in services:
        color = {"serving": "green", "starting": "yellow"}.get(service["health"], "red")
        table.add_row(
            *(
                Text(str(service[key] or ""), style=color if key == "health" else "")
                for key in columns
            )
        )
    return table
