"""The runtime profile: how every process that runs Limelight's models is set up.

The local stack, the benchmark's baseline, the end-to-end tests and `make train-tiny` read it here,
so that what is measured is what is deployed. `python -m services.local.runtime` prints it for
programs that are not Python.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated

import typer

# Bytes: a request of the greatest size, and what Serve says beside it.
_LARGEST_MESSAGE = 80 << 20
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class RuntimeProfile:
    """Environment variables by purpose, and what Serve's gRPC proxy serves.

    Attributes:
        allocator: glibc's allocator, for processes that run torch on a CPU. A person's own
            settings take precedence.
        ray: Ray and Ray Serve, wherever they run.
        loopback: Ray on a single machine, reachable by its own processes alone.
        grpc_servicers: import paths of the functions that add a servicer to a server, the value of
            `grpc_servicer_functions` in Serve's `gRPCOptions`.
    """

    allocator: Mapping[str, str]
    ray: Mapping[str, str]
    loopback: Mapping[str, str]
    grpc_servicers: tuple[str, ...]


RUNTIME = RuntimeProfile(
    # By default glibc gives freed memory back to the kernel and faults it in again, which costs
    # torch on a CPU most of its time: a training step fell from 4 s to 0.5 s.
    allocator=MappingProxyType(
        {
            # Bytes free at the top of the heap before any are given back: never.
            "MALLOC_TRIM_THRESHOLD_": "4000000000",
            # Bytes from which a block is mapped by itself, and unmapped when freed: never.
            "MALLOC_MMAP_THRESHOLD_": "4000000000",
            # Bytes by which the heap grows at a time, to fault pages in less often.
            "MALLOC_TOP_PAD_": "256000000",
        }
    ),
    ray=MappingProxyType(
        {
            # Nothing is reported to Ray's makers.
            "RAY_USAGE_STATS_ENABLED": "0",
            # Logs go to files and collectors, which show color codes as garbage.
            "RAY_COLOR_PREFIX": "0",
            # The same line from several replicas stays as several lines.
            "RAY_DEDUP_LOGS": "0",
            # Replicas run what blocks in threads they start themselves, so their event loop can
            # take calls directly. With the next two flags: 5 % less CPU a call.
            "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
            "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
            # The access log gets a line a call: in its file alone, and not flushed after each.
            "RAY_SERVE_LOG_TO_STDERR": "0",
            "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
            # Seconds until a proxy that is not ready is killed: 5 by default, too few to import it
            # on a busy machine.
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
            # A proxy that was killed is replaced after three checks, which fail at once: calls are
            # answered 9 s after its death, where Serve's own 10 s between checks made it 24. One
            # that is only slow may be silent as long as before, three limits and two gaps: 49 s.
            "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
            "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "15",
            # What is larger than that goes through Ray's store, which the raylet keeps: by default
            # pictures of more than 100 kB. The proxy waits for it in its event loop, so that one of
            # them stopped every call while the raylet stood still.
            "RAY_max_direct_call_object_size": str(_LARGEST_MESSAGE),
            "RAY_task_rpc_inlined_bytes_limit": str(_LARGEST_MESSAGE),
            # Ray starts its workers at nice 15, so that all else on a machine goes first. Replicas
            # are what the machine is there for; beside two busy programs they stood still.
            "RAY_worker_niceness": "0",
            # Idle workers would be started for the driver, which needs none.
            "RAY_prestart_worker_first_driver": "0",
        }
    ),
    loopback=MappingProxyType(
        {
            # Ray's own ports listen on loopback alone, as they do on Windows and macOS.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            # Only processes that know the token may talk to this Ray.
            "RAY_AUTH_MODE": "token",
            # A model that does not load the first time will not the second: whoever waits for the
            # stack is told at once, not after two more loads.
            "RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT": "1",
        }
    ),
    grpc_servicers=(
        "limelight.internal.v1.planner_pb2_grpc.add_PlannerServiceServicer_to_server",
        "limelight.internal.v1.segmenter_pb2_grpc.add_SegmenterServiceServicer_to_server",
        "limelight.internal.v1.tracker_pb2_grpc.add_TrackerServiceServicer_to_server",
        "limelight.internal.v1.replica_pb2_grpc.add_ReplicaServiceServicer_to_server",
    ),
)


def with_allocator(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with the allocator's settings, unless it has its own."""
    return {**RUNTIME.allocator, **environment}


def local_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that starts a Ray of its own on this machine.

    Ray's flags take precedence over those in `environment`. The token is a new one with each call;
    without one in its environment, Ray leaves a token in ~/.ray. Proxies stay for what is fetched
    from elsewhere.
    """
    return {
        **with_allocator(_loopback_excepted(environment)),
        **RUNTIME.ray,
        **RUNTIME.loopback,
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


def _loopback_excepted(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with loopback among the exceptions from its proxies, if it has any."""
    found = dict(environment)
    if not any(name.lower().endswith("_proxy") for name in environment):
        return found
    # gRPC looks at the first of them alone where it is there.
    for variable in ("no_grpc_proxy", "no_proxy"):
        given = environment.get(variable) or environment.get(variable.upper()) or ""
        if given or variable == "no_proxy":
            excepted = ",".join(filter(None, [given, *_LOOPBACK_NAMES]))
            found |= {variable: excepted, variable.upper(): excepted}
    return found


class RuntimePart(StrEnum):
    """A part of the profile that can be printed."""

    ALLOCATOR = "allocator"
    RAY = "ray"
    LOOPBACK = "loopback"
    SERVICERS = "servicers"


class PrintFormat(StrEnum):
    """How it is printed."""

    ENV = "env"
    JSON = "json"


_DEFAULT_PARTS = [RuntimePart.ALLOCATOR, RuntimePart.RAY]


def main(
    parts: Annotated[
        list[RuntimePart],
        typer.Option(
            "--print",
            help="What to print; may be repeated. allocator: malloc settings of processes that run "
            "torch on a CPU. ray: flags of Ray and Ray Serve. loopback: flags of a Ray that only "
            "this machine may reach. servicers: import paths for Serve's gRPC proxy.",
        ),
    ] = _DEFAULT_PARTS,
    form: Annotated[
        PrintFormat,
        typer.Option(
            "--format",
            help="env: lines NAME=VALUE, as `env` and `docker run --env-file` take them, and one "
            "path a line for servicers. json: one object of names and values, and an array for "
            "servicers.",
        ),
    ] = PrintFormat.ENV,
) -> None:
    """Print settings of the runtime profile, for make, shells, images and charts.

    Example: env $(python -m services.local.runtime --print allocator) python train.py
    """
    if RuntimePart.SERVICERS in parts:
        if set(parts) != {RuntimePart.SERVICERS}:
            raise typer.BadParameter("servicers are not variables: print them alone")
        paths = RUNTIME.grpc_servicers
        typer.echo(json.dumps(paths) if form is PrintFormat.JSON else "\n".join(paths))
        return
    variables: dict[str, str] = {}
    for part in parts:
        variables |= getattr(RUNTIME, part.value)
    if form is PrintFormat.JSON:
        typer.echo(json.dumps(variables, indent=2))
    else:
        typer.echo("\n".join(f"{name}={value}" for name, value in variables.items()))


if __name__ == "__main__":
    typer.run(main)
