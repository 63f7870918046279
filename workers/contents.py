"""Big content of results that are not acknowledged yet: files in the cache directory, named by their SHA-256."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from swamp.files import make_private_dir, sync_directory, write_atomically


class ContentLost(Exception):
    """It is not here any more as it was put, and will not be again."""


class Contents:
    """The files are written before the result that speaks of them, and removed after its acknowledgement.

    Everything but `get` is for one thread.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._of: dict[str, tuple[str, ...]] = {}  # checksums, by dispatch
        make_private_dir(directory)

    def take_up(self, left: Mapping[str, Iterable[str]]) -> None:
        """What an earlier process has left: the checksums that each dispatch speaks of. Files of no dispatch go."""
        self._of |= {dispatch: tuple(checksums) for dispatch, checksums in left.items()}
        wanted = self._wanted()
        for path in self._directory.iterdir():
            if path.name not in wanted:
                self._remove(path.name)

    def put(self, dispatch: str, contents: Mapping[str, bytes]) -> None:
        """Durable when this returns. Raises `OSError`."""
        if not contents:
            return
        self._of[dispatch] = tuple(contents)
        for checksum, content in contents.items():
            write_atomically(self._directory / checksum, content, mode=0o600)
        sync_directory(self._directory)

    def get(self, checksum: str) -> bytes:
        """Raises `ContentLost`, and `OSError` for what may pass."""
        try:
            content = (self._directory / checksum).read_bytes()
        except FileNotFoundError as error:
            raise ContentLost("its file is gone") from error
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise ContentLost(str(error)) from error
        if hashlib.sha256(content).hexdigest() != checksum:
            raise ContentLost("its file was changed")
        return content

    def delivered(self, dispatches: Iterable[str]) -> None:
        """Remove what these spoke of, and no other does."""
        done = [checksum for dispatch in dispatches for checksum in self._of.pop(dispatch, ())]
        if done:
            for checksum in set(done) - self._wanted():
                self._remove(checksum)

    def _wanted(self) -> set[str]:
        return {checksum for checksums in self._of.values() for checksum in checksums}

    def _remove(self, checksum: str) -> None:
        with suppress(OSError):  # the next start tries again
            (self._directory / checksum).unlink()
