"""The one log line of a call, the same in the gateway and in the replicas."""

import logging
import time

from services.errors import ServiceError
from services.rpc.status import code_of, is_callers_fault

logger = logging.getLogger(__name__)


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
