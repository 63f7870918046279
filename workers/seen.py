"""Which dispatches this machine has ever begun: none is begun a second time, whatever Redis says.

The file holds one record for each call of `add`: 8 bytes, little-endian, of unix seconds, then the ids with a newline
between them.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from workers.records import RecordFile

MAX_AGE = 30 * 86_400  # seconds; dispatches expire long before
MAX_IDS = 1_000_000

_TIME = struct.Struct("<Q")
_IDS_PER_RECORD = 1_000


class SeenList:
    """A durable set of dispatch ids. May be used by several threads."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Opens the list at `path`, or begins an empty one. `clock` gives unix seconds.

        Raises `OSError`, and `Invalid` if the file is something else.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._file = RecordFile(path)
        self._times: dict[str, int] = {}
        for _, payload in self._file.scan():
            (seconds,) = _TIME.unpack_from(payload)
            for dispatch in payload[_TIME.size :].decode().split("\n"):
                self._times.setdefault(dispatch, seconds)
        self._compact_above = MAX_IDS
        oldest = next(iter(self._times.values()), None)
        if oldest is not None and (oldest < clock() - MAX_AGE or len(self._times) > MAX_IDS):
            self._compact()

    def __contains__(self, dispatch: str) -> bool:
        return dispatch in self._times

    def __len__(self) -> int:
        return len(self._times)

    def add(self, ids: Sequence[str]) -> set[str]:
        """Notes the ids, with one sync for all, and returns those that were new: only they may be begun.

        Raises `OSError` when they cannot be made durable; none of them counts as seen then.
        """
        with self._lock:
            new = {dispatch: None for dispatch in ids if dispatch not in self._times}
            if not new:
                return set()
            now = int(self._clock())
            self._file.append([_record(now, tuple(new))])
            self._times.update(dict.fromkeys(new, now))
            if len(self._times) > self._compact_above:
                self._compact()
        return set(new)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _compact(self) -> None:
        """Drops what is too old, and the oldest half of what is too much."""
        since = self._clock() - MAX_AGE
        kept = [(dispatch, seconds) for dispatch, seconds in self._times.items() if seconds >= since]
        if len(kept) > MAX_IDS:
            kept = kept[-MAX_IDS // 2 :]
        by_time: dict[int, list[str]] = {}
        for dispatch, seconds in kept:
            by_time.setdefault(seconds, []).append(dispatch)
        records: list[bytes] = []
        for seconds, dispatches in by_time.items():
            remaining = iter(dispatches)
            while part := tuple(islice(remaining, _IDS_PER_RECORD)):
                records.append(_record(seconds, part))
        # Without room for the shorter file the longer one serves as well; it is tried again when it has grown.
        self._compact_above = len(self._times) + MAX_IDS // 10
        with contextlib.suppress(OSError):
            self._file.replace(records)
            self._times = dict(kept)
            self._compact_above = MAX_IDS


def _record(seconds: int, ids: Sequence[str]) -> bytes:
    return _TIME.pack(seconds) + "\n".join(ids).encode()
