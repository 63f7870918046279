"""What RQ's tools get to see: the fields of their books, made from what the orchestrator knows. Pure.

The books lie open to whoever may read Redis, and rq-dashboard puts much of them into its pages unescaped. So whatever a
machine says of itself goes through a narrow alphabet, and of a failure only such sentences are shown as cannot hold an
argument, a secret or output.
"""

from __future__ import annotations

import re
import zlib
from base64 import b64encode
from collections.abc import Sequence

from swamp.orchestrator.members import Member

Record = tuple[object, ...]  #: one of `swamp1_mirror`; docs/protocol.md has their fields

#: Seconds that a step has run before RQ's tools are told that it does. Who looks at them now and then would hardly have
#: seen it, and telling it, and taking it back, is half of all that Redis does for a step.
UNSHOWN = 0.25

_SAYS_NOTHING_MORE = re.compile(
    r"Command (exited with code -?\d+|was ended by signal [A-Z0-9]+|timed out after \d+ ms)", re.ASCII
)
_OUTSIDE = re.compile(r"[^A-Za-z0-9._:+-]")


def worker_fields(member: Member, now: str) -> list[str]:
    """Names and values, in turn, of a worker's hash. Redis keeps the first `now` that it is told."""
    process = member.process
    known = {
        "birth": now,
        "state": "busy" if member.running else "idle",
        "hostname": _plain(process.host),
        "pid": str(process.pid),
        "ip_address": _plain(process.address),
        "version": f"swamp-{_plain(process.version)}",
        "python_version": _plain(process.python),
        "shutdown_requested_date": "",
    }
    return [text for pair in known.items() for text in pair]


class Unshown:
    """What runs and is not shown yet; `at` is in seconds of any clock."""

    def __init__(self) -> None:
        self._starts: dict[str, tuple[float, Record]] = {}  # by dispatch, oldest first: when it is to be shown

    def __contains__(self, dispatch: object) -> bool:
        return dispatch in self._starts

    @property
    def due(self) -> float:
        """When the next start is to be shown."""
        return next(iter(self._starts.values()))[0] if self._starts else float("inf")

    def told(self, records: Sequence[Record], now: str, at: float) -> list[Record]:
        """The ledger's records, and starts that are due, as the server's function takes them. What ends before its
        start was shown is told once, as ended. `running` is what may be listed already, from before Redis was away."""
        told: list[Record] = []
        for record in records:
            dispatch = str(record[2])
            if record[0] == "started":
                self._starts[dispatch] = (at + UNSHOWN, record)
                continue
            unshown = self._starts.pop(dispatch, None) is not None
            if record[0] == "running":
                told.append(("started", *record[1:]))
            else:
                told.append((*record[:6], record[6] or now, *record[7:], int(not unshown)))
        while self._starts and self.due <= at:
            told.append(self._starts.pop(next(iter(self._starts)))[1])
        return told

    def forget(self) -> None:
        self._starts.clear()


def failure(error: str, run_id: str) -> str:
    """What is shown of why a step failed, as said by a machine: all of it where that cannot tell too much."""
    reason = error if _SAYS_NOTHING_MORE.fullmatch(error) else "The step failed"
    return f"{reason}\nswamp workflow history get {run_id}"


def packed_text(text: str) -> str:
    """The form in which RQ keeps the text of an exception among a job's results."""
    return b64encode(zlib.compress(text.encode())).decode()


def _plain(text: str) -> str:
    return _OUTSIDE.sub("_", text[:64])
