"""Structured logs: one JSON object a line, with request id and tenant inside a call."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from services.codecs import strict_json
from services.rpc.calls import log_fields


class JsonFormatter(logging.Formatter):
    """`time`, `level`, `logger`, `message`, the call's `request_id` and `tenant`, `fields`."""

    def __init__(self, **fields: str) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._fields,
        }
        line |= log_fields()
        fields = getattr(record, "fields", {})
        line |= {key: value for key, value in fields.items() if value is not None}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(strict_json.finite(line), ensure_ascii=False, default=str)


def configure(level: str, stream: TextIO | None = None, **fields: str) -> None:
    """Send every log record of this process to `stream` (stderr) as JSON lines.

    `fields` are in each of them: which replica this is, say.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(**fields))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_not_a_callers_bytes)


def _not_a_callers_bytes(record: logging.LogRecord) -> bool:
    """grpcio logs a traceback for each header that is not UTF-8, though it reads it as Latin-1; the
    call is refused and logged by ourselves where it matters (`services.rpc.metadata`).
    """
    return not record.getMessage().startswith("Invalid encoding on")
