"""Content too big for a database row: files named by the SHA-256 of what they hold (`ab/abcd…`). They never change."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable
from pathlib import Path

from swamp.errors import Busy, SwampError
from swamp.files import make_private_dir, sync_directory, write_atomically

INLINE_LIMIT = 64 * 1024  #: bytes; longer content is a file, shorter lies in the database


def blob_path(directory: Path, checksum: str) -> Path:
    """Where content of this SHA-256 (hex) lies."""
    return directory / checksum[:2] / checksum


def put_blobs(directory: Path, contents: Iterable[tuple[str, bytes]]) -> None:
    """Keep each (SHA-256 in hex, content); all are on the disk, under their names, when this returns.

    Safe to repeat and to interrupt: a crash leaves at most a file that nobody refers to. Raises `Busy` (`disk_full`)
    when there is no room.
    """
    touched: set[Path] = set()
    try:
        for checksum, content in contents:
            path = blob_path(directory, checksum)
            if not _holds(path, len(content)):
                make_private_dir(path.parent)
                write_atomically(path, content, mode=0o600)
            touched.add(path.parent)
        # Also where everything was there already: whoever made it may not have synced its name yet.
        for named_in in (*touched, directory, directory.parent) if touched else ():
            sync_directory(named_in)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Busy(
                f"no space is left on the disk of {directory}", hint="make room, then try again", code="disk_full"
            ) from error
        raise


def read_blob(directory: Path, checksum: str) -> bytes:
    """The content of this checksum. Raises `SwampError` (`content_damaged`) if it is missing or not what it was."""
    path = blob_path(directory, checksum)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SwampError(
            f"stored content cannot be read: {path}: {error.strerror}",
            hint="restore the file from a backup",
            code="content_damaged",
        ) from error
    if hashlib.sha256(content).hexdigest() != checksum:
        raise SwampError(
            f"stored content is damaged: {path}", hint="restore the file from a backup", code="content_damaged"
        )
    return content


def _holds(path: Path, size: int) -> bool:
    # Content is synced before it gets its name, so the size tells a good file from one that was cut by hand.
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False
