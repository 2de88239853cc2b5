"""The process that holds a local stack together: it starts Ray Serve and the gateway, and watches.

Started by `limelight up` as `python -m services.cli.supervisor ROOT CONFIG` in a session of its
own, or run inside `limelight up --foreground`. It writes what it does into the stack's state, so
nobody talks to it; SIGTERM ends the stack. A gateway that dies is started again; when Ray dies,
the models are gone, and the stack ends as failed.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.cli import ports, processes, ray_folder
from services.cli.processes import MARK_VARIABLE, ProcessRef
from services.cli.state import Phase, StackConfig, StackFolder, StackState

# A full checkpoint may have to be fetched first.
START_TIMEOUT_S = 3600.0
_PUBLIC_SERVICE = "limelight.v1.LimelightService"
_GATEWAY_RESTARTS = 5
_GATEWAY_STOP_S = 15.0
_SERVE_STOP_S = 10.0
_MAX_LINE_BYTES = 1 << 20
_PACKAGES = ("limelight", "ray", "torch", "transformers", "grpcio")

_STAGES = {
    "ray": "starting Ray",
    "serve": "starting Ray Serve",
    "models": "loading planner and segmenter",
    "ready": "models loaded",
}


@dataclass(frozen=True, slots=True)
class Parts:
    """Python's arguments for the two parts; `serve` gets its configuration as one more."""

    serve: tuple[str, ...] = ("-m", "services.cli.serve_host")
    gateway: tuple[str, ...] = ("-m", "services.gateway")


class StackFailed(Exception):
    """The stack could not be started, or a part of it died for good."""


class Supervisor:
    """One stack's life.

    Args:
        folder: where its state and logs go.
        config: what it is to be.
        mark: the mark for its processes' environment.
        on_change: told every new state, after it is written.
        parts: what is started.
    """

    def __init__(
        self,
        folder: StackFolder,
        config: StackConfig,
        mark: str,
        on_change: Callable[[StackState], None] = lambda _: None,
        parts: Parts = Parts(),
    ) -> None:
        self._folder = folder
        self._parts = parts
        self._config = config
        self._on_change = on_change
        self._stop = asyncio.Event()
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._state = StackState(
            config=config,
            mark=mark,
            supervisor=ProcessRef.of(os.getpid()),
            started=time.time(),
            stage=_STAGES["ray"],
            ray_dir=str(ray_folder.make()),
            versions=_versions(),
        )

    async def run(self) -> StackState:
        """Start, watch until told to end (or until it fails), end; the last state is returned."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        self._change()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._or_stopped(self._start())
            if not self._stop.is_set():
                ready_s = round(time.time() - self._state.started, 2)
                self._change(phase=Phase.READY, stage="", ready_s=ready_s)
            await self._or_stopped(self._watch())
        except TimeoutError:
            self._fail(f"the stack was not ready after {START_TIMEOUT_S:.0f} s")
        except StackFailed as exc:
            self._fail(str(exc))
        finally:
            await self._end()
        return self._state

    async def _or_stopped(self, work: Any) -> None:
        """Await `work`, but give it up when the stack is told to end."""
        task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            for each in (task, stopped):
                each.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    async def _start(self) -> None:
        grpc_port, http_port, ray_metrics_port = ports.free_ports(3)
        serve_config = {
            "grpc_port": grpc_port,
            "http_port": http_port,
            "ray_metrics_port": ray_metrics_port,
            "ray_dir": str(ray_folder.inner(self._state.ray_dir)),
            "planner": self._config.planner,
            "segmenter": self._config.segmenter,
        }
        self._change(addresses={"serve": f"{ports.LOOPBACK}:{grpc_port}"})
        # The gateway connects when it is first asked, so both can start at once.
        await asyncio.gather(self._start_serve(serve_config), self._start_gateway())
        await self._serving()

    async def _start_serve(self, config: dict[str, Any]) -> None:
        ready = asyncio.Event()
        error = ""

        def on_event(event: dict[str, Any]) -> None:
            nonlocal error
            if event["event"] == "failed":
                error = event["error"]
                return
            stage = event.get("stage", "")
            if stage == "ready":
                ready.set()
            self._change(stage=_STAGES.get(stage, stage))

        child = await self._spawn(
            "serve",
            (*self._parts.serve, json.dumps(config)),
            self._folder.serve_log,
            on_event,
        )
        if not await _ready_or_dead(ready, child):
            raise StackFailed(error or f"the models did not start (exit code {child.returncode})")

    async def _start_gateway(self) -> None:
        """Start the gateway and wait until it listens, on the preferred ports if they are free.

        Started again, it prefers those it had, so that clients find it.
        """
        listening = asyncio.Event()
        wanted = [
            ports.preferred(_port(self._state.addresses.get("gateway")) or self._config.port),
            ports.preferred(
                _port(self._state.addresses.get("metrics")) or self._config.metrics_port
            ),
        ]

        def on_event(event: dict[str, Any]) -> None:
            if event.get("event") == "listening":
                addresses = {"gateway": event["address"], "metrics": event.get("metrics") or ""}
                self._change(addresses={**self._state.addresses, **addresses})
                listening.set()

        while True:
            child = await self._spawn(
                "gateway",
                self._parts.gateway,
                self._folder.gateway_log,
                on_event,
                {
                    "LIMELIGHT_GATEWAY_LISTEN": f"{ports.LOOPBACK}:{wanted[0]}",
                    "LIMELIGHT_GATEWAY_METRICS_LISTEN": f"{ports.LOOPBACK}:{wanted[1]}",
                    "LIMELIGHT_GATEWAY_PLANNER_ADDRESS": self._state.addresses["serve"],
                    "LIMELIGHT_GATEWAY_SEGMENTER_ADDRESS": self._state.addresses["serve"],
                    "LIMELIGHT_GATEWAY_PLANNER_APPLICATION": "planner",
                    "LIMELIGHT_GATEWAY_SEGMENTER_APPLICATION": "segmenter",
                },
            )
            if await _ready_or_dead(listening, child):
                return
            if not any(wanted):
                raise StackFailed(f"the gateway did not start (exit code {child.returncode})")
            wanted = [0, 0]  # somebody took a port between the look and the leap

    async def _serving(self) -> None:
        """Until the gateway says that it reaches both services."""
        async with grpc.aio.insecure_channel(self._state.addresses["gateway"]) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(service=_PUBLIC_SERVICE)
            )
            try:
                async for response in watch:
                    if response.status == health_pb2.HealthCheckResponse.SERVING:
                        return
            except grpc.aio.AioRpcError as exc:
                raise StackFailed(f"the gateway ended ({exc.code().name})") from exc

    async def _watch(self) -> None:
        """Until something dies for good."""
        serve = asyncio.ensure_future(self._children["serve"].wait())
        try:
            while True:
                gateway = asyncio.ensure_future(self._children["gateway"].wait())
                await asyncio.wait({serve, gateway}, return_when=asyncio.FIRST_COMPLETED)
                if serve.done():
                    gateway.cancel()
                    raise StackFailed(f"Ray Serve ended (exit code {serve.result()})")
                if self._state.restarts >= _GATEWAY_RESTARTS:
                    raise StackFailed(f"the gateway ended again (exit code {gateway.result()})")
                self._change(restarts=self._state.restarts + 1)
                await asyncio.sleep(0.1 * 2**self._state.restarts)
                await self._start_gateway()
        finally:
            serve.cancel()

    async def _end(self) -> None:
        failed = self._state.phase is Phase.FAILED
        if not failed:
            self._change(phase=Phase.STOPPING, stage="stopping")
        # Those of Ray that survive their parent are found while it still lives.
        known = processes.with_descendants(self._state.processes.values())
        for name, grace_s in (("gateway", _GATEWAY_STOP_S), ("serve", _SERVE_STOP_S)):
            child = self._children.get(name)
            if child is None or child.returncode is not None:
                continue
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), 0.0 if failed else grace_s)
        rest = [*known, *processes.marked(self._state.mark)]
        own = ProcessRef.of(os.getpid())
        await asyncio.to_thread(processes.end, [ref for ref in rest if ref.pid != own.pid], 0.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        ray_folder.remove(self._state.ray_dir)
        if not failed:
            self._folder.forget()

    async def _spawn(
        self,
        name: str,
        arguments: tuple[str, ...],
        log: Path,
        on_event: Callable[[dict[str, Any]], None],
        environment: dict[str, str] | None = None,
    ) -> asyncio.subprocess.Process:
        """Start a part of the stack; JSON lines with an `event` on its output go to `on_event`.

        It gets a session of its own, so that Ctrl-C in a terminal reaches the supervisor alone.
        """
        # Not asyncio's own pipe: with that, waiting for the child would wait for every process that
        # inherited its output as well.
        reader, writer = os.pipe()
        try:
            with log.open("ab") as handle:
                child = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=writer,
                    stderr=handle,
                    env={**_environment(self._state.mark), **(environment or {})},
                    start_new_session=True,
                )
        finally:
            os.close(writer)
        self._children[name] = child
        ref = ProcessRef.of(child.pid)
        self._change(processes={**self._state.processes, name: ref})
        task = asyncio.create_task(_pump(reader, log, on_event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return child

    def _fail(self, error: str) -> None:
        self._change(phase=Phase.FAILED, stage="", error=error)

    def _change(self, **changes: Any) -> None:
        self._state = dataclasses.replace(self._state, **changes)
        self._folder.write(self._state)
        self._on_change(self._state)


def _port(address: str | None) -> int:
    return int(address.rpartition(":")[2]) if address else 0


async def _ready_or_dead(ready: asyncio.Event, child: asyncio.subprocess.Process) -> bool:
    """Whether the child became ready; False when it ended first."""
    became, died = asyncio.ensure_future(ready.wait()), asyncio.ensure_future(child.wait())
    try:
        await asyncio.wait({became, died}, return_when=asyncio.FIRST_COMPLETED)
        return ready.is_set()
    finally:
        became.cancel()
        died.cancel()


async def _pump(descriptor: int, log: Path, on_event: Callable[[dict[str, Any]], None]) -> None:
    """Copy a part's output into its log, and hand on the events in it."""
    stream = asyncio.StreamReader(limit=_MAX_LINE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb", buffering=0)
    )
    try:
        with log.open("ab", buffering=0) as handle:
            while line := await _line(stream):
                handle.write(line)
                if line.startswith(b"{"):
                    with contextlib.suppress(ValueError):
                        event = json.loads(line)
                        if "event" in event:
                            on_event(event)
    finally:
        transport.close()


async def _line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readline()
    except ValueError:
        return b"(a line of more than 1 MiB)\n"


def _environment(mark: str) -> dict[str, str]:
    """What a stack's processes inherit, beside the settings a person exported."""
    return {
        # glibc gives freed memory back and faults it in again, which costs torch on a CPU most of
        # its time.
        "MALLOC_TRIM_THRESHOLD_": "4000000000",
        "MALLOC_MMAP_THRESHOLD_": "4000000000",
        "MALLOC_TOP_PAD_": "256000000",
        **os.environ,
        MARK_VARIABLE: mark,
        "PYTHONUNBUFFERED": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_COLOR_PREFIX": "0",
        "RAY_DEDUP_LOGS": "0",
        # Ray's own ports listen on loopback alone, as they do on Windows and macOS.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Who may talk to this Ray: its own processes. Otherwise Ray leaves a token in ~/.ray.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # A replica's own threads do what blocks, so its event loop can take calls directly, and a
        # line a call in Serve's access log need not be flushed at once: 5 % less CPU a call.
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
        # Idle workers would be started for the driver, which needs none.
        "RAY_prestart_worker_first_driver": "0",
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def main() -> None:
    """Run the stack described on the command line until it ends."""
    root, config = Path(sys.argv[1]), StackConfig(**json.loads(sys.argv[2]))
    folder = StackFolder(root, config.name)
    state = asyncio.run(_run(folder, config, os.environ[MARK_VARIABLE]))
    sys.exit(1 if state.phase is Phase.FAILED else 0)


async def _run(folder: StackFolder, config: StackConfig, mark: str) -> StackState:
    return await Supervisor(folder, config, mark).run()


if __name__ == "__main__":
    main()
