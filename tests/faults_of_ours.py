"""Whether anything of ours broke in a test: read from the gateways' metrics and from the logs.

Whatever a client does, a gateway answers with a status that names its cause. So no call of any
gateway of the whole suite may end as INTERNAL or UNKNOWN, and no traceback may be logged by what
serves calls, but where a test says that this is what it is about (`@pytest.mark.breaks`).
"""

import logging
import sys
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

_BROKEN = frozenset({"INTERNAL", "UNKNOWN"})
_CALLS = "grpc_server_handled_total"
# Whose tracebacks count: what serves calls here. What asyncio and gRPC say of loops that have ended
# (https://github.com/grpc/grpc/issues/25364) comes from the tests' many loops in one process.
_LOGGERS = ("services.gateway", "services.rpc")


class GatewayWatch:
    """The metrics of every gateway that this process makes."""

    def __init__(self) -> None:
        self._fresh: list[Any] = []  # not looked at yet: kept, though its gateway may be gone
        self._counted: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        self._installed = False

    def install(self) -> None:
        """Begin to watch, once a test has imported the gateway."""
        module = sys.modules.get("services.gateway.metrics")
        if self._installed or module is None:
            return
        self._installed = True
        made = module.GatewayMetrics.__init__

        def init(metrics: Any, *args: Any, **kwargs: Any) -> None:
            made(metrics, *args, **kwargs)
            self._fresh.append(metrics)

        module.GatewayMetrics.__init__ = init

    def faults(self) -> list[str]:
        """Calls that ended as nobody's should, since the last look."""
        watched = [*self._fresh, *self._counted]
        self._fresh.clear()
        found = []
        for metrics in watched:
            broken = _broken(metrics.registry)
            if sum(broken.values()) > self._counted.get(metrics, 0.0):
                found += list(broken)
            self._counted[metrics] = sum(broken.values())
        return found


def _broken(registry: Any) -> dict[str, float]:
    return {
        f"{sample.labels['grpc_method']} ended as {sample.labels['grpc_code']}": sample.value
        for metric in registry.restricted_registry([_CALLS]).collect()
        for sample in metric.samples
        if sample.name == _CALLS and sample.labels["grpc_code"] in _BROKEN
    }


def tracebacks(records: Iterable[logging.LogRecord]) -> list[str]:
    """What was logged with a traceback by what serves calls."""
    return [
        f"{record.name} logged a traceback: {record.getMessage()}"
        for record in records
        if record.name.startswith(_LOGGERS)
        and (record.exc_info or "Traceback" in record.getMessage())
    ]
