"""The one log line of a call, the same in the gateway and in the replicas."""

import logging
import time

from services.errors import Cancelled, Overloaded, ServiceError
from services.rpc.status import code_of, is_callers_fault

logger = logging.getLogger(__name__)

# Of the calls that are shed, or whose callers leave, so many a second have a line. Each is counted
# in the metrics.
_SHED_LINES = 5


class CallLog:
    """The log of a server's calls, which a flood of those that are shed or reset does not fill."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def ended(
        self, path: str, error: ServiceError | None, exc: Exception | None, begin: float
    ) -> None:
        """Log how a call ended; see `log_call`."""
        if isinstance(error, Overloaded | Cancelled) and not self._room():
            self._left_out += 1
            return
        log_call(path, error, exc, begin)

    def _room(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            if self._left_out:
                fields = {"left_out": self._left_out}
                logger.info("more calls were shed or canceled", extra={"fields": fields})
            self._second, self._lines, self._left_out = second, 0, 0
        self._lines += 1
        return self._lines <= _SHED_LINES


def log_call(path: str, error: ServiceError | None, exc: Exception | None, begin: float) -> None:
    """Log how a call ended that began at `begin`, seconds of `time.perf_counter`.

    A caller's mistake is one line. `exc`, what the handler raised, is logged whole unless it is
    a `ServiceError`.
    """
    fields: dict[str, object] = {
        "method": path,
        "code": "OK" if error is None else code_of(error).name,
        "milliseconds": round((time.perf_counter() - begin) * 1000, 1),
    }
    if error is None:
        level = logging.DEBUG if path.startswith("/grpc.") else logging.INFO
        logger.log(level, "answered", extra={"fields": fields})
        return
    fields |= {"reason": error.reason.value, "field": error.field and str(error.field)}
    if is_callers_fault(error):
        logger.info("refused: %s", error, extra={"fields": fields})
    else:
        ours = not isinstance(exc, ServiceError)
        logger.error("failed: %s", error, extra={"fields": fields}, exc_info=exc if ours else None)
