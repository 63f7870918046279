"""Files that are either whole or absent, whatever happens while they are written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Make `path` hold `content`, replacing what was there. After a crash it holds the old content or the new one.

    The directory must exist. `mode` is the file's permission, whatever the umask. Raises `OSError`; `path` is then
    as it was.
    """
    with _temporary(path, content, mode) as temporary:
        temporary.replace(path)
    sync_directory(path.parent)


def create_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    """As `write_atomically`, but of several processes at once exactly one succeeds.

    Raises `FileExistsError` when `path` exists; it is then untouched.
    """
    with _temporary(path, content, mode) as temporary:
        # A rename would replace the file of whoever was faster; a link refuses.
        path.hardlink_to(temporary)
    sync_directory(path.parent)


def remove_durably(path: Path) -> None:
    """Remove `path` so that it stays removed after a crash. Raises `FileNotFoundError` when there is none."""
    path.unlink()
    sync_directory(path.parent)


def make_private_dir(path: Path) -> None:
    """Make the directory `path`, and its missing parents, durable and closed to everybody but the owner (0700)."""
    if not path.is_dir():
        if not path.parent.is_dir():
            make_private_dir(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        sync_directory(path.parent)
    if path.stat().st_mode & 0o777 != 0o700:
        path.chmod(0o700)


def sync_directory(path: Path) -> None:
    """Make the names in the directory `path` durable: a synced file whose name is not synced may still be lost."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _temporary(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    """A synced file with `content` beside `path`, gone afterwards."""
    temporary = path.parent / f".tmp-{secrets.token_hex(8)}"
    # Born without rights for others: content must not be readable between creation and chmod.
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        error.filename = str(path)  # nobody has ever heard of the temporary file
        raise
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
