"""Which dispatches this machine has ever claimed, and which of them it may have started: none is begun a second time,
whatever Redis says, and of each it can say afterwards whether it was started, also in an earlier process.

A file holds records of two kinds: `c` and the ids of what was claimed, with a newline between them, and `b` and the
digests of what is about to be started. Only the second is synced: a claim that is forgotten with the power was not
started. When the file is full it becomes the older one, and the one that was so far is forgotten.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

from swamp.files import sync_directory
from workers.digests import SIZE, Digests
from workers.records import RecordFile

MAX_IDS = 1_000_000
KEPT_UNSTARTED = 1_000  #: known never to have been started; of older ones that is not known any more

_CLAIMED, _BEGUN = b"c", b"b"


class SeenList:
    """A durable set of dispatch ids. Belongs to the worker's loop."""

    def __init__(self, path: Path) -> None:
        """Opens the list at `path`, or begins an empty one. Raises `OSError`, and `Invalid` if it is something else."""
        self._path = path
        self._older_path = path.with_name(f"{path.name}.older")
        self._unstarted: dict[bytes, str] = {}  # digest to id, oldest first
        self._older = Digests()
        if self._older_path.exists():
            older = RecordFile(self._older_path)
            self._load(older, self._older)
            older.close()
        self._newer = Digests()
        self._file = RecordFile(path)
        self._load(self._file, self._newer)
        self._rotate_at = MAX_IDS // 2

    def __contains__(self, dispatch: str) -> bool:
        return self._has(_digest(dispatch))

    def __len__(self) -> int:
        return len(self._older) + len(self._newer)

    @property
    def unstarted(self) -> tuple[str, ...]:
        """What was claimed and is known never to have been started, by this process or an earlier one."""
        return tuple(self._unstarted.values())

    def may_have_started(self, dispatch: str) -> bool:
        """Whether it was claimed here, and is not known never to have been started."""
        digest = _digest(dispatch)
        return self._has(digest) and digest not in self._unstarted

    def add(self, ids: Sequence[str]) -> set[str]:
        """Notes the ids as claimed, and returns those that were new: only they may be begun.

        Raises `OSError` when they cannot be written; none of them counts as seen then.
        """
        new = {digest: dispatch for dispatch in ids if not self._has(digest := _digest(dispatch))}
        if not new:
            return set()
        if len(self._newer) >= self._rotate_at:
            self._rotate()
        self._file.append([_CLAIMED + "\n".join(new.values()).encode()], durable=False)
        for digest in new:
            self._newer.add(digest)
        self._note_unstarted(new)
        return set(new.values())

    def begin(self, ids: Iterable[str]) -> None:
        """Notes, with one sync for all, that these are about to be started.

        Raises `OSError` when that cannot be made durable; then none of them may be.
        """
        digests = [_digest(dispatch) for dispatch in ids]
        if not digests:
            return
        self._file.append([_BEGUN + b"".join(digests)])
        for digest in digests:
            self._unstarted.pop(digest, None)

    def was_not_started(self, ids: Iterable[str]) -> None:
        """What was begun, or could not be noted, and will never be started by this process."""
        unstarted = {_digest(dispatch): dispatch for dispatch in ids}
        for digest in unstarted:
            if not self._has(digest):
                self._newer.add(digest)
        self._note_unstarted(unstarted)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _has(self, digest: bytes) -> bool:
        return digest in self._newer or digest in self._older

    def _note_unstarted(self, unstarted: dict[bytes, str]) -> None:
        self._unstarted.update(unstarted)
        while len(self._unstarted) > KEPT_UNSTARTED:
            del self._unstarted[next(iter(self._unstarted))]

    def _load(self, file: RecordFile, into: Digests) -> None:
        for _, payload in file.scan():
            if payload.startswith(_CLAIMED):
                claimed = {_digest(dispatch): dispatch for dispatch in payload[1:].decode().split("\n")}
                self._note_unstarted(claimed)
                for digest in claimed:
                    into.add(digest)
            else:
                for at in range(1, len(payload), SIZE):
                    digest = payload[at : at + SIZE]
                    if self._unstarted.pop(digest, None) is None:
                        into.add(digest)

    def _rotate(self) -> None:
        """Begin a new file; the newer half of what is known becomes the older one."""
        # Without room for a new file the one there is serves as well.
        self._rotate_at = len(self._newer) + MAX_IDS // 10
        with contextlib.suppress(OSError):
            fresh = self._path.with_name(f"{self._path.name}.new")
            RecordFile(fresh).close()
            self._file.sync()
            self._path.replace(self._older_path)
            fresh.replace(self._path)
            sync_directory(self._path.parent)
            self._file.close()
            self._file = RecordFile(self._path)
            self._older, self._newer = self._newer, Digests()
            self._rotate_at = MAX_IDS // 2


def _digest(dispatch: str) -> bytes:
    return blake2b(dispatch.encode(), digest_size=SIZE).digest()
