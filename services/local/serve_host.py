"""The process that owns Ray: it starts Serve with its apps and stays until it is told to end.

The supervisor runs it as `python -m services.local.serve_host CONFIG`, where CONFIG is JSON. It
prints its stages and its failure as JSON lines on standard output, between whatever Ray prints.
"""

import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection
from importlib import import_module
from typing import Any

import psutil
import ray
from ray import serve
from ray.serve.config import HTTPOptions, ProxyLocation, gRPCOptions

from services.local import processes
from services.local.ports import LOOPBACK
from services.local.processes import ProcessRef
from services.local.runtime import RUNTIME

# Replicas keep images and embeddings in their own memory; hardly anything goes through Ray's store.
_OBJECT_STORE_BYTES = 100 << 20
# CPUs are a way of placing replicas on a cluster. Here all of them share the machine anyway.
_LOGICAL_CPUS = 16
_WATCH_S = 1.0
# Looks at Ray's processes' states, and looks in a row after which one that a signal has stopped is
# ended: whoever ended is started again, by Ray or by the supervisor.
_STATES_S = 5.0
_STOPPED = 3
# The applications, and where each is built.
_BUILDS = {
    "planner": "services.planner.app",
    "segmenter": "services.segmenter.app",
    "tracker": "services.tracker.app",
}
# The line that ends a traceback: "OSError: no such file", "huggingface_hub.errors.X: ...".
_EXCEPTION_LINE = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Missing|Invalid\w*): .+)$", re.M)


def bind_loopback_only() -> None:
    """Setup hook of each Ray worker that keeps Serve's gRPC ports off the network.

    Serve binds every interface and has no option for it, and its proxy has neither TLS nor a
    password: on a laptop that would open the models to everyone nearby.
    """
    from ray.serve._private import default_impl, replica

    add_port = replica.add_port_to_grpc_server

    def on_loopback(address: str) -> str:
        return f"{LOOPBACK}:{address.rpartition(':')[2]}"

    def add_grpc_address(grpc_server: Any, server_address: str) -> None:
        grpc_server.add_insecure_port(on_loopback(server_address))

    default_impl.add_grpc_address = add_grpc_address
    replica.add_port_to_grpc_server = lambda server, address: add_port(server, on_loopback(address))


def main() -> None:
    """Start Ray Serve with the models, report the stages, and shut down on SIGTERM or SIGINT."""
    config = json.loads(sys.argv[1])
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        _start(config)
    except Exception as exc:
        traceback.print_exc()
        timed_out = start_timed_out(exc)
        what = "Ray's start timed out" if timed_out else f"Ray did not start: {exc}"
        _tell_failure(what, timed_out)
        end_children()
        # Ray's own shutdown would wait for what did not start.
        os._exit(1)
    _tell("models")
    # All at once: loading takes longest, and it is mostly imports and reading files.
    try:
        serve.run_many([_target(name, arguments) for name, arguments in config["services"].items()])
    except RuntimeError:
        _tell_failure(_why())
        raise
    _tell("ready")
    core = _core_processes()
    still = StillProcesses()
    while not stop.wait(_WATCH_S):
        still.look()
        dead = [name for name, ref in core.items() if not ref.alive]
        if dead:
            print(f"Ray's {' and '.join(dead)} ended", file=sys.stderr, flush=True)
            # Ray's own shutdown would wait for them; the supervisor ends what is left.
            os._exit(1)
    # Not `serve.shutdown()`: the gateway has drained by now, so no call is left to wait for.
    ray.shutdown()


class StillProcesses:
    """Ends descendants of this process that a signal has stopped for good.

    Ray takes a proxy, a replica or itself for well, or waits for most of a minute, while the
    kernel takes connections and calls for what will not answer them.

    Args:
        every_s: seconds between two looks.
        clock: seconds.
    """

    def __init__(
        self, every_s: float = _STATES_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s, self._clock = every_s, clock
        self._due = clock() + every_s
        self._seen: dict[psutil.Process, int] = {}

    def look(self) -> None:
        """Look, if it is time."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + self._every_s
        stopped = filter(processes.stopped, psutil.Process().children(recursive=True))
        self._seen = {process: self._seen.get(process, 0) + 1 for process in stopped}
        for process, looks in self._seen.items():
            if looks >= _STOPPED:
                what = f"{process.pid} stands still, stopped by a signal; it is killed"
                print(f"process {what}", file=sys.stderr, flush=True)
                with contextlib.suppress(psutil.Error):
                    process.kill()


def start_timed_out(error: Exception) -> bool:
    """Whether Ray or Ray Serve gave up waiting for its own processes, which are only slow.

    Ray has no type for it: its node raises a plain `Exception`, its core a `RuntimeError`.
    """
    return isinstance(error, TimeoutError) or "timed out" in str(error).lower()


def _start(config: dict[str, Any]) -> None:
    """Start Ray, then Ray Serve without applications."""
    _tell("ray")
    ray.init(
        address="local",
        include_dashboard=False,
        num_cpus=_LOGICAL_CPUS,
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=True,
        runtime_env={"worker_process_setup_hook": bind_loopback_only},
        _node_ip_address=LOOPBACK,
        _metrics_export_port=config["ray_metrics_port"],
        _temp_dir=config["ray_dir"],
    )
    _tell("serve")
    serve.start(
        proxy_location=ProxyLocation.HeadOnly,
        http_options=HTTPOptions(host=LOOPBACK, port=config["http_port"]),
        grpc_options=gRPCOptions(
            port=config["grpc_port"], grpc_servicer_functions=list(RUNTIME.grpc_servicers)
        ),
    )


def end_children(but: Collection[ProcessRef] = ()) -> None:
    """Kill what a failed start of Ray left, while it is found among this process's descendants.

    Args:
        but: descendants from before Ray's start, which stay.
    """
    own = ProcessRef.of(os.getpid())
    fresh = [ref for ref in processes.with_descendants([own]) if ref not in (own, *but)]
    processes.end(fresh, 0.0)


def _core_processes() -> dict[str, ProcessRef]:
    """Ray's processes without which it is dead, though its driver may not notice for minutes."""
    return {
        child.name(): ProcessRef.of(child.pid)
        for child in psutil.Process().children()
        if child.name() in ("gcs_server", "raylet")
    }


def _target(name: str, arguments: dict[str, str]) -> serve.RunTarget:
    # Imported here, once Ray is up, so that its start does not wait for them.
    build = import_module(_BUILDS[name]).build
    return serve.RunTarget(build(arguments), name=name, route_prefix=f"/{name}")


def _why() -> str:
    """Why a replica did not start: the last line of its exception, as Serve recorded it."""
    for name, application in serve.status().applications.items():
        for deployment in application.deployments.values():
            faults = _EXCEPTION_LINE.findall(deployment.message)
            if faults:
                return f"the {name} did not start: {faults[-1]}"
    return "Ray Serve could not start the models"


def _tell(stage: str) -> None:
    print(json.dumps({"event": "stage", "stage": stage}), flush=True)


def _tell_failure(error: str, timed_out: bool = False) -> None:
    print(json.dumps({"event": "failed", "error": error, "timed_out": timed_out}), flush=True)


if __name__ == "__main__":
    # Ray's workers find the hook by its module's name, which must not be `__main__`.
    from services.local import serve_host

    serve_host.main()
