"""Big content of results that are not acknowledged yet: files in the cache directory, named by their SHA-256."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from pathlib import Path

from swamp.files import make_private_dir, sync_directory, write_atomically


class ContentLost(Exception):
    """It is not here any more as it was put, and will not be again."""


class Contents:
    """The files are written before the result that speaks of them, and removed after its acknowledgement."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        make_private_dir(directory)

    def put(self, contents: Mapping[str, bytes]) -> None:
        """Durable when this returns. Raises `OSError`."""
        for checksum, content in contents.items():
            write_atomically(self._directory / checksum, content, mode=0o600)
        if contents:
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

    def keep_only(self, checksums: set[str]) -> None:
        """Remove everything else."""
        for path in self._directory.iterdir():
            if path.name not in checksums:
                path.unlink(missing_ok=True)
