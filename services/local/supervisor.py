"""The supervisor of a local stack: it starts Ray Serve and the gateways, and watches them.

`limelight up` starts it as `python -m services.local.supervisor ROOT CONFIG` in a new session;
`limelight up --foreground` runs it in its own process. It reports through the stack's state alone,
and SIGTERM ends the stack. A Ray whose start timed out is started once more. A part that dies is
started again, at its old address and after a wait that grows with every recent death; after too
many of them the stack ends as failed.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from limelight.proxies import local_options
from services.local import ports, processes, pulse, ray_folder
from services.local.health import PUBLIC_SERVICE
from services.local.log_file import LogFile
from services.local.processes import MARK_VARIABLE, PART_VARIABLE, ProcessRef
from services.local.restarts import Restarts
from services.local.runtime import local_environment
from services.local.state import (
    Phase,
    StackConfig,
    StackFault,
    StackFolder,
    StackState,
    numbered,
)

# A full checkpoint may have to be fetched first.
START_TIMEOUT_S = 3600.0
_GATEWAY_STOP_S = 15.0
_SERVE_STOP_S = 10.0
_OUTPUT_END_S = 5.0
_MAX_LINE_BYTES = 1 << 20
_PACKAGES = ("limelight", "ray", "torch", "transformers", "grpcio")

_STAGES = {
    "ray": "starting Ray",
    "serve": "starting Ray Serve",
    "models": "loading the models",
    "ready": "models loaded",
}


@dataclass(frozen=True, slots=True)
class Parts:
    """Python's arguments for the two parts; `serve` gets its configuration as one more."""

    serve: tuple[str, ...] = ("-m", "services.local.serve_host")
    gateway: tuple[str, ...] = ("-m", "services.gateway")


class StackFailed(Exception):
    """The stack could not be started, or a part of it died for good."""


class StartTimedOut(StackFailed):
    """Ray or Ray Serve did not start in the time it gives itself; it may the next time."""


class Supervisor:
    """Runs one stack from its start to its end.

    Args:
        folder: where its state and logs go.
        config: of the stack.
        mark: for its processes' environment.
        on_change: called with every new state, after it is written.
        parts: the programs to start.
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
        self._gateways = range(1, config.gateways + 1)
        self._names = {number: numbered("gateway", number) for number in self._gateways}
        self._deaths = {name: Restarts() for name in ("serve", *self._names.values())}
        self._logs = {
            "serve": LogFile(folder.serve_log),
            **{name: LogFile(folder.gateway_log(n)) for n, name in self._names.items()},
        }
        self._began = time.monotonic()
        self._port: socket.socket | None = None
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
        """Start the stack, watch it until a signal or a failure, end it; return the last state."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        self._change()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._or_stopped(self._start())
            if not self._stop.is_set():
                ready_s = round(time.monotonic() - self._began, 2)
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
        """Await `work`, but cancel it when the stack is told to end."""
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
        self._port = self._reserve()
        grpc_port, http_port, ray_metrics_port = ports.free_ports(3)
        self._serve_config = {
            "grpc_port": grpc_port,
            "http_port": http_port,
            "ray_metrics_port": ray_metrics_port,
            "ray_dir": str(ray_folder.inner(self._state.ray_dir)),
            "services": self._config.services,
        }
        self._change(
            addresses={
                "serve": f"{ports.LOOPBACK}:{grpc_port}",
                "ray_metrics": f"{ports.LOOPBACK}:{ray_metrics_port}",
            }
        )
        # The gateway connects when it is first asked, so both can start at once.
        starts = [
            asyncio.create_task(self._start_serve()),
            *(asyncio.create_task(self._start_gateway(number)) for number in self._gateways),
        ]
        try:
            await asyncio.gather(*starts)
        finally:
            # When one fails, the other must not go on to start processes after the stack's end.
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
        await asyncio.gather(*map(self._serving, self._gateways))

    def _reserve(self) -> socket.socket:
        """Hold the port that the gateways share: the preferred one, or any if it is taken."""
        host = self._config.host
        try:
            return ports.reserve(host, self._config.port)
        except OSError:
            try:
                return ports.reserve(host, 0)
            except OSError as exc:
                raise StackFailed(f"the gateway cannot listen on {host}: {exc.strerror}") from exc

    async def _start_serve(self) -> None:
        """Start Ray Serve with the models, once more if Ray's own start timed out."""
        try:
            await self._try_serve()
        except StartTimedOut as exc:
            # Ray gives its processes 30 s, too little on a busy machine.
            self._change(stage=f"{exc}; trying once more")
            await self._try_serve()

    async def _try_serve(self) -> None:
        """Start Ray Serve and wait until it has loaded the models; leave nothing of a failed start.

        Raises:
            StartTimedOut: Ray or Ray Serve did not start in the time it gives itself.
            StackFailed: it failed in another way.
        """
        ready = asyncio.Event()
        failures: list[StackFailed] = []

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "failed":
                kind = StartTimedOut if event.get("timed_out") else StackFailed
                failures.append(kind(event["error"]))
                return
            stage = event.get("stage", "")
            if stage == "ready":
                ready.set()
            self._change(stage=_STAGES.get(stage, stage))

        child, output = await self._spawn(
            "serve",
            (*self._parts.serve, json.dumps(self._serve_config)),
            on_event,
        )
        if await _ready_or_dead(ready, child):
            return
        await self._clear_serve()
        # Nobody holds the pipe open now, so its end comes, and the reason is read before it.
        await asyncio.wait({output}, timeout=_OUTPUT_END_S)
        fallback = StackFailed(f"the models did not start (exit code {child.returncode})")
        raise failures[-1] if failures else fallback

    async def _clear_serve(self) -> None:
        """End what a dead Ray left, and remove its folder."""
        left = await asyncio.to_thread(processes.marked, self._state.mark, "serve")
        await asyncio.to_thread(processes.end, left, 0.0)
        await asyncio.to_thread(
            shutil.rmtree, ray_folder.inner(self._state.ray_dir), ignore_errors=True
        )

    async def _start_gateway(self, number: int) -> None:
        """Start a gateway and wait until it listens at the port that all of them share.

        It prefers the port for its metrics that it had, or else its own in the configuration.
        """
        assert self._port is not None
        name, metrics = self._names[number], numbered("metrics", number)
        listening = asyncio.Event()
        first = self._config.metrics_port and self._config.metrics_port + number - 1
        wanted = ports.preferred(_port(self._state.addresses.get(metrics)) or first)

        def on_event(event: dict[str, Any]) -> None:
            if event.get("event") == "listening":
                addresses = {
                    "gateway": event["address"],
                    numbered("direct", number): event["direct"],
                    metrics: event.get("metrics") or "",
                }
                self._change(addresses={**self._state.addresses, **addresses})
                listening.set()

        while True:
            child, _ = await self._spawn(
                name,
                self._parts.gateway,
                on_event,
                {
                    "LIMELIGHT_GATEWAY_LISTEN": (
                        f"{self._config.host}:{self._port.getsockname()[1]}"
                    ),
                    "LIMELIGHT_GATEWAY_SHARE_PORT": "1",
                    "LIMELIGHT_GATEWAY_DIRECT_LISTEN": f"{ports.LOOPBACK}:0",
                    "LIMELIGHT_GATEWAY_METRICS_LISTEN": f"{self._config.host}:{wanted}",
                    "LIMELIGHT_GATEWAY_PLANNER_ADDRESS": self._state.addresses["serve"],
                    "LIMELIGHT_GATEWAY_SEGMENTER_ADDRESS": self._state.addresses["serve"],
                    "LIMELIGHT_GATEWAY_TRACKER_ADDRESS": self._state.addresses["serve"]
                    if "tracker" in self._config.services
                    else "",
                    "LIMELIGHT_GATEWAY_PLANNER_APPLICATION": "planner",
                    "LIMELIGHT_GATEWAY_SEGMENTER_APPLICATION": "segmenter",
                    "LIMELIGHT_GATEWAY_TRACKER_APPLICATION": "tracker",
                },
            )
            if await _ready_or_dead(listening, child):
                return
            if not wanted:
                raise StackFailed(
                    f"{self._what(number)} did not start (exit code {child.returncode})"
                )
            wanted = 0  # another process took the port since it was looked for

    def _what(self, number: int) -> str:
        """A gateway in words for a person."""
        return "the gateway" if self._config.gateways == 1 else f"gateway {number}"

    async def _serving(self, number: int) -> None:
        """Wait until a gateway reports that it reaches both services."""
        address = self._state.addresses[numbered("direct", number)]
        options = local_options(address)
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(service=PUBLIC_SERVICE)
            )
            try:
                async for response in watch:
                    if response.status == health_pb2.HealthCheckResponse.SERVING:
                        return
            except grpc.aio.AioRpcError as exc:
                raise StackFailed(f"{self._what(number)} ended ({exc.code().name})") from exc

    async def _watch(self) -> None:
        """Start parts that die again; raise `StackFailed` when one is given up."""
        parts = [
            asyncio.create_task(self._keep("serve", "Ray Serve", self._start_serve_again)),
            *(asyncio.create_task(self._keep_gateway(number)) for number in self._gateways),
        ]
        try:
            await asyncio.gather(*parts)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _keep_gateway(self, number: int) -> None:
        """Start a gateway again whenever it dies, and end it when it no longer answers."""

        def address() -> str:
            return self._state.addresses[numbered("direct", number)]

        def silent(told: str) -> None:
            self._logs[name].write(f"{self._what(number)} {told}; it is killed\n".encode())
            with contextlib.suppress(ProcessLookupError):
                self._children[name].kill()

        name = self._names[number]
        watches = [
            asyncio.create_task(pulse.watch(address, silent)),
            asyncio.create_task(pulse.watch_state(lambda: self._children[name].pid, silent)),
        ]
        try:
            await self._keep(name, self._what(number), lambda: self._start_gateway(number))
        finally:
            for watch in watches:
                watch.cancel()

    async def _keep(self, name: str, what: str, start: Callable[[], Awaitable[None]]) -> None:
        """Start a part again whenever it dies, until it has died too often of late."""
        while True:
            code = await self._children[name].wait()
            fault = self._fault(f"{what} ended (exit code {code})")
            delay = self._deaths[name].died()
            if delay is None:
                self._change(fault=fault)
                raise StackFailed(f"{what} ended too often (exit code {code})")
            count = self._state.restarts.get(name, 0) + 1
            self._change(
                fault=fault,
                restarts={**self._state.restarts, name: count},
                stage=f"{what} ended; starting it again",
            )
            await asyncio.sleep(delay)
            with contextlib.suppress(StackFailed):  # then it is dead again, and counted
                await start()
                self._change(stage="")

    async def _start_serve_again(self) -> None:
        """Ray Serve on its old ports, where the gateway finds it."""
        await self._clear_serve()
        await self._start_serve()

    async def _end(self) -> None:
        failed = self._state.phase is Phase.FAILED
        if not failed:
            self._change(phase=Phase.STOPPING, stage="stopping")
        # Those of Ray that survive their parent are found while it still lives.
        known = processes.with_descendants(self._state.processes.values())
        await asyncio.gather(
            *(self._end_child(name, _GATEWAY_STOP_S) for name in self._names.values())
        )
        await self._end_child("serve", _SERVE_STOP_S)
        rest = [*known, *processes.marked(self._state.mark)]
        own = ProcessRef.of(os.getpid())
        await asyncio.to_thread(processes.end, [ref for ref in rest if ref.pid != own.pid], 0.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for log in self._logs.values():
            log.close()
        if self._port is not None:
            self._port.close()
        ray_folder.remove(self._state.ray_dir)
        if not failed:
            self._folder.forget()

    async def _end_child(self, name: str, grace_s: float) -> None:
        """Ask a part to end, and wait for it; not for one of a stack that has failed."""
        child = self._children.get(name)
        if child is None or child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        with contextlib.suppress(TimeoutError):
            failed = self._state.phase is Phase.FAILED
            await asyncio.wait_for(child.wait(), 0.0 if failed else grace_s)

    async def _spawn(
        self,
        name: str,
        arguments: tuple[str, ...],
        on_event: Callable[[dict[str, Any]], None],
        environment: dict[str, str] | None = None,
    ) -> tuple[asyncio.subprocess.Process, asyncio.Task[None]]:
        """Start a part of the stack; JSON lines with an `event` on its output go to `on_event`.

        It leads a new session, so that Ctrl-C in a terminal reaches the supervisor alone, and
        imports nothing of the folder that the stack was started in: Ray's workers would, too.

        Returns:
            The process, and the task that reads its output to the end.
        """
        # Not asyncio's own pipe: with that, waiting for the child would wait for every process that
        # inherited its output as well.
        reader, writer = os.pipe()
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                cwd=self._folder.path,
                env={
                    **local_environment(os.environ),
                    # Its lines arrive as they are printed, not a block at a time.
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONSAFEPATH": "1",
                    MARK_VARIABLE: self._state.mark,
                    PART_VARIABLE: name,
                    **(environment or {}),
                },
                start_new_session=True,
            )
        finally:
            os.close(writer)
        self._children[name] = child
        ref = ProcessRef.of_child(child.pid)
        self._change(processes={**self._state.processes, name: ref})
        task = asyncio.create_task(_pump(reader, self._logs[name], on_event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return child, task

    def _fail(self, error: str) -> None:
        self._change(phase=Phase.FAILED, stage="", error=error, fault=self._fault(error))

    def _fault(self, what: str) -> StackFault:
        return StackFault(what, time.time(), str(self._folder.log_of(what)))

    def _change(self, **changes: Any) -> None:
        self._state = dataclasses.replace(self._state, **changes)
        # A full disk must not end a stack that works; what is told of it is then old.
        with contextlib.suppress(OSError):
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


async def _pump(descriptor: int, log: LogFile, on_event: Callable[[dict[str, Any]], None]) -> None:
    """Copy a part's output into its log and pass its events to `on_event`."""
    stream = asyncio.StreamReader(limit=_MAX_LINE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb", buffering=0)
    )
    try:
        while line := await _line(stream):
            log.write(line)
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
