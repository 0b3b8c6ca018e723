"""Logs: lines for people, or JSON for machines; both with the trace that a line belongs to.

What clients send may be part of a line, and is never more than that: line breaks and what else a terminal would obey
are escaped, and a value with blanks stands in quotes.

A JSON line has etcd's fields (`level`, `ts`, `caller`, `msg`), the trace's ids when there is one, and whatever the call
passed as `extra={"fields": {…}}`.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from opentelemetry import trace

CONSOLE = "console"
JSON = "json"

_LEVELS = {"WARNING": "warn", "CRITICAL": "fatal"}


def set_up(level: str, form: str) -> None:
    """Logs to stderr from this level on. `form` is `console` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == JSON else Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; what is not JSON among its fields as its `str`."""
        line: dict[str, Any] = {
            "level": _LEVELS.get(record.levelname, record.levelname.lower()),
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "logger": record.name,
            "caller": f"{record.module}.py:{record.lineno}",
            "msg": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            line["stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Lines(logging.Formatter):
    """The usual line, its fields behind it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """The line without a stack trace."""
        fields = "".join(f" {name}={_quoted(str(value))}" for name, value in fields_of(record).items())
        return escaped(super().formatMessage(record)) + fields

    def formatException(self, ei: Any) -> str:  # noqa: N802  logging's name
        """The stack trace, whose last line may have what a client sent."""
        return "\n".join(escaped(line) for line in super().formatException(ei).split("\n"))


def escaped(text: str) -> str:
    """The text with what is not printable as Python would write it."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _quoted(value: str) -> str:
    if value and value.isprintable() and not any(letter in value for letter in ' "='):
        return value
    return '"' + escaped(value.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that a record was given, and the ids of the current trace."""
    fields = dict(getattr(record, "fields", {}))
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        fields["trace_id"] = trace.format_trace_id(context.trace_id)
        fields["span_id"] = trace.format_span_id(context.span_id)
    return fields
