"""`python -m loadtest.capacity`: what a load needs, from measured seconds a call.

Little's law and nothing else: a part that works `s` seconds on each of `r` calls a second is busy
`r * s` times at once, and is given room so that it is busy for `target_utilization` of its time.
`docs/capacity.md` says where the seconds come from.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True, slots=True)
class Traffic:
    """What comes in.

    Attributes:
        images_per_s: calls, one image each.
        instructions: share of the calls with an instruction, which need a plan.
        known_plans: share of those plans that are in the cache.
    """

    images_per_s: float
    instructions: float = 1.0
    known_plans: float = 0.0

    @property
    def plans_per_s(self) -> float:
        return self.images_per_s * self.instructions * (1 - self.known_plans)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds a call takes of each part, batches full.

    Attributes:
        segmenter_s, planner_s: seconds of a GPU (or of the CPU replica) for an image, for a plan.
        gateway_s: seconds of a core in the gateway.
        proxy_s: seconds of a core in a Serve proxy, which is one process a pod.
    """

    segmenter_s: float
    planner_s: float
    gateway_s: float
    proxy_s: float


@dataclass(frozen=True, slots=True)
class Need:
    """What a load takes: replicas of the models, cores of the gateways, cells they are cut into."""

    segmenters: int
    planners: int
    gateway_cores: int
    cells: int
    busiest_proxy: float

    @property
    def saturates_first(self) -> str:
        """The model that needs more GPUs."""
        if self.segmenters == self.planners:
            return "both at once"
        return "segmenter" if self.segmenters > self.planners else "planner"


def need(traffic: Traffic, costs: Costs, target_utilization: float, cell_gpus: int) -> Need:
    """What `traffic` takes.

    Args:
        traffic: what comes in.
        costs: of a call.
        target_utilization: share of its time that a part is busy.
        cell_gpus: GPUs of the larger of a cell's two pools, at most.
    """

    def parts(per_s: float, seconds: float) -> int:
        return max(1, math.ceil(per_s * seconds / target_utilization))

    segmenters = parts(traffic.images_per_s, costs.segmenter_s)
    planners = parts(traffic.plans_per_s, costs.planner_s) if traffic.plans_per_s else 0
    # Each replica's pod has a proxy; the busiest is that of the model with more calls a replica.
    busiest = traffic.images_per_s / segmenters * costs.proxy_s
    if planners:
        busiest = max(busiest, traffic.plans_per_s / planners * costs.proxy_s)
    return Need(
        segmenters,
        planners,
        parts(traffic.images_per_s, costs.gateway_s),
        math.ceil(max(segmenters, planners) / cell_gpus),
        busiest,
    )


def main(
    images_per_s: Annotated[
        list[float] | None, typer.Argument(help="Loads; 10 to 100,000 by default.")
    ] = None,
    instructions: Annotated[float, typer.Option(help="Share of calls with one.")] = 1.0,
    known_plans: Annotated[float, typer.Option(help="Share of plans in the cache.")] = 0.5,
    segmenter_ms: Annotated[float, typer.Option(help="Of a GPU, for an image.")] = 47.0,
    planner_ms: Annotated[float, typer.Option(help="Of a GPU, for a plan.")] = 756.0,
    gateway_ms: Annotated[float, typer.Option(help="Of a core, for a call.")] = 4.0,
    proxy_ms: Annotated[float, typer.Option(help="Of a Serve proxy, for a call.")] = 4.0,
    target_utilization: Annotated[float, typer.Option(help="Share of its time, busy.")] = 0.7,
    cell_gpus: Annotated[int, typer.Option(help="GPUs of a cell's larger pool, at most.")] = 64,
) -> None:
    """GPUs, gateway cores and cells for each load, as a table."""
    costs = Costs(
        segmenter_s=segmenter_ms / 1000,
        planner_s=planner_ms / 1000,
        gateway_s=gateway_ms / 1000,
        proxy_s=proxy_ms / 1000,
    )
    typer.echo(
        "| images/s | segmenter GPUs | planner GPUs | gateway cores | cells "
        "| saturates first | busiest proxy |"
    )
    typer.echo("| --: | --: | --: | --: | --: | --- | --: |")
    for rate in images_per_s or (10, 100, 1_000, 10_000, 100_000):
        traffic = Traffic(rate, instructions, known_plans)
        found = need(traffic, costs, target_utilization, cell_gpus)
        typer.echo(
            f"| {rate:,.0f} | {found.segmenters:,} | {found.planners:,} | {found.gateway_cores:,} "
            f"| {found.cells:,} | {found.saturates_first} | {found.busiest_proxy:.0%} |"
        )


if __name__ == "__main__":
    typer.run(main)
