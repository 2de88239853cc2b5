"""Structured logs: one JSON object a line, with the request id wherever there is one."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from services.rpc.calls import current_request_id


class JsonFormatter(logging.Formatter):
    """`time`, `level`, `logger`, `message`, `request_id`, the record's `fields`, `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = current_request_id()
        if request_id is not None:
            line["request_id"] = request_id
        fields = getattr(record, "fields", {})
        line |= {key: value for key, value in fields.items() if value is not None}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send every log record of this process to `stream` (stderr) as JSON lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
