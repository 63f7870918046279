"""Log lines of the long-running commands: one event a line on stderr, for people or as JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping

from swamp.clock import Timepiece

FIELDS = ("run", "step", "dispatch", "machine", "worker", "target")
"""What a line is about, where it is about that: a line of JSON has them as fields of their own. Who logs gives them as
`extra`."""


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return f"{_time(record)} {record.levelname.lower():<7} {text}"


class _Json(logging.Formatter):
    def __init__(self, always: Mapping[str, str]) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        document = {"time": _time(record), "level": record.levelname.lower(), "message": record.getMessage()}
        document |= self._always
        document |= {name: str(value) for name in FIELDS if (value := getattr(record, name, None))}
        if record.exc_info:
            document["trace"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False)


_written = Timepiece()


def _time(record: logging.LogRecord) -> str:
    return _written.text(int(record.created * 1e9))


def log_to_stderr(*, as_json: bool, always: Mapping[str, str] | None = None) -> None:
    """Show what Swamp logs from here on. Other libraries are heard from warnings on. `always` goes into every line of
    JSON."""
    # What no line shows need not be found out for each: who called, in which thread and process ("Optimization" in
    # Python's logging HOWTO).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(always or {}) if as_json else _Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("swamp").setLevel(logging.INFO)
