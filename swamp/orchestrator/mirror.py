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


def books(records: Sequence[Record], now: str) -> list[Record]:
    """The ledger's records as the server's function takes them. What started and ended since the last time is told
    once, as ended: nobody could have seen it run. `running` is what may be listed already, from before Redis was
    away."""
    started = {record[2] for record in records if record[0] == "started"}
    ended = {record[2] for record in records if record[0] == "ended"}
    told: list[Record] = []
    for record in records:
        if record[0] == "ended":
            told.append((*record[:6], record[6] or now, *record[7:], int(record[2] not in started)))
        elif record[0] == "running":
            told.append(("started", *record[1:]))
        elif record[2] not in ended:
            told.append(record)
    return told


def failure(error: str, run_id: str) -> str:
    """What is shown of why a step failed, as said by a machine: all of it where that cannot tell too much."""
    reason = error if _SAYS_NOTHING_MORE.fullmatch(error) else "The step failed"
    return f"{reason}\nswamp workflow history get {run_id}"


def packed_text(text: str) -> str:
    """The form in which RQ keeps the text of an exception among a job's results."""
    return b64encode(zlib.compress(text.encode())).decode()


def _plain(text: str) -> str:
    return _OUTSIDE.sub("_", text[:64])
