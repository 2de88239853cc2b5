"""`python -m loadtest.scaling`: our policy and Ray Serve's own, side by side on simulated load."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from ray.serve import autoscaling_policy as built_in
from ray.serve.config import AutoscalingConfig

from loadtest.scaling.loads import SHAPES, LoadShape
from loadtest.scaling.simulator import Context, Decide, Outcome, Site, simulate
from services.codecs import strict_json
from services.replica.scaling import WorkPolicy


def serve_policy(context: Context) -> tuple[int, dict[str, Any]]:
    """Ray Serve's own: its policy, its scaling factors and its delays, on the simulated clock."""
    desired, _ = built_in.replica_queue_length_autoscaling_policy(context)
    wanted = built_in._apply_scaling_factors(desired, context.current_num_replicas, context.config)
    wanted = min(max(wanted, context.config.min_replicas), context.config.max_replicas)
    decided: tuple[int, dict[str, Any]] = built_in._apply_delay_logic(
        wanted,
        context.target_num_replicas,
        context.config,
        dict(context.policy_state),
        _now=context.current_time,
    )
    return decided


def work_policy(policy: WorkPolicy) -> Decide:
    """Ours, rounded as Serve rounds it."""

    def decide(context: Context) -> tuple[int, dict[str, Any]]:
        wanted, state = policy(context)
        return built_in._apply_scaling_factors(
            wanted, context.current_num_replicas, context.config
        ), state

    return decide


def contestants(site: Site) -> dict[str, tuple[Decide, Any, float]]:
    """By name: a policy, its configuration, its look-back period in seconds."""

    def config(**values: Any) -> Any:
        return AutoscalingConfig(min_replicas=site.least, max_replicas=site.most, **values)

    return {
        "serve, as it comes": (serve_policy, config(), 30.0),
        "serve, tuned": (
            serve_policy,
            config(target_ongoing_requests=1.0, upscale_delay_s=10, downscale_delay_s=300),
            30.0,
        ),
        "limelight": (work_policy(WorkPolicy(cold_start_s=site.cold_start_s)), config(), 10.0),
    }


def row(name: str, outcome: Outcome) -> str:
    """A line of the table."""
    return (
        f"  {name:<20}{outcome.wait_s(0.5):>9.2f}{outcome.wait_s(0.99):>9.2f}"
        f"{float(outcome.waits_s.max()):>9.1f}{outcome.replica_hours:>9.2f}{outcome.changes:>9d}"
    )


def run(shape: LoadShape, site: Site, seed: int, tell: Callable[[str], None]) -> dict[str, Outcome]:
    """All contestants on one shape."""
    tell(f"{shape.name} ({shape.seconds / 60:.0f} minutes)")
    found = {}
    for name, (decide, config, look_back_s) in contestants(site).items():
        found[name] = simulate(shape, decide, config, site, look_back_s, seed)
        tell(row(name, found[name]))
    return found


def main(
    seed: Annotated[int, typer.Option(help="Of arrivals and service times.")] = 0,
    cold_start_s: Annotated[
        float, typer.Option(help="Seconds from asking for a replica to its first answer.")
    ] = 90.0,
    service_s: Annotated[float, typer.Option(help="Mean seconds of model time a request.")] = 0.1,
    shapes: Annotated[
        list[str] | None, typer.Option("--shape", help="Only this load; may be repeated.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures there as well.")
    ] = None,
) -> None:
    """Compare scaling policies on simulated load: waits in seconds, replica-hours, changes."""
    unknown = set(shapes or ()) - {shape.name for shape in SHAPES}
    if unknown:
        raise typer.BadParameter(f"no such shape: {', '.join(sorted(unknown))}")
    site = Site(service_s=service_s, cold_start_s=cold_start_s)
    typer.echo(f"  {'':<20}{'p50 s':>9}{'p99 s':>9}{'max s':>9}{'hours':>9}{'changes':>9}")
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for shape in SHAPES:
        if shapes and shape.name not in shapes:
            continue
        outcomes = run(shape, site, seed, typer.echo)
        figures[shape.name] = {
            name: {
                "p50_s": outcome.wait_s(0.5),
                "p99_s": outcome.wait_s(0.99),
                "replica_hours": outcome.replica_hours,
                "changes": outcome.changes,
            }
            for name, outcome in outcomes.items()
        }
    if json_file is not None:
        json_file.write_text(strict_json.dumps(strict_json.finite(figures), indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
