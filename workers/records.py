"""An append-only file of checksummed records: what was appended is there after any crash, what was half-written is not.

    "swamp-r1"                                      8 bytes, which name this format
    ( length  checksum  payload )*                  length and checksum are 4 bytes each, little-endian

The checksum is the CRC-32 of the length's bytes and the payload. Reading stops at the first record that is cut or does
not fit its checksum, and what follows is cut off: it can only be the batch that was being written at the crash.
One process writes at a time (the cache directory is locked, see `workers.identity`).
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from zlib import crc32

from swamp.errors import Invalid
from swamp.files import sync_directory, write_atomically

_MAGIC = b"swamp-r1"
_HEAD = struct.Struct("<II")
_LENGTH = struct.Struct("<I")

# Times need not be durable, only data and size; macOS knows no such call.
_sync = getattr(os, "fdatasync", os.fsync)


class RecordFile:
    """One open file of records (mode 0600). Not for several threads at once."""

    def __init__(self, path: Path) -> None:
        """Opens the file, or makes an empty one. Raises `Invalid` if it is a file of something else."""
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        begin = os.pread(self._descriptor, len(_MAGIC), 0)
        if begin == _MAGIC:
            self._end = os.fstat(self._descriptor).st_size
        elif _MAGIC.startswith(begin):  # empty, or a crash came while it was made
            os.pwrite(self._descriptor, _MAGIC, 0)
            os.fsync(self._descriptor)
            sync_directory(path.parent)
            self._end = len(_MAGIC)
        else:
            os.close(self._descriptor)
            raise Invalid(
                f"{path} is not a file of a Swamp worker", hint="choose a cache directory that holds nothing else"
            )

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._end

    def scan(self) -> Iterator[tuple[int, bytes]]:
        """Every record, oldest first, with the offset of its payload. Cuts off what a crash left half-written.

        To be read to its end before anything is appended.
        """
        position = len(_MAGIC)
        with open(self._descriptor, "rb", closefd=False, buffering=1 << 20) as file:
            file.seek(position)
            while position < self._end:
                head = file.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    break
                length, checksum = _HEAD.unpack(head)
                if length > self._end - position - _HEAD.size:
                    break
                payload = file.read(length)
                if crc32(payload, crc32(head[:4])) != checksum:
                    break
                yield position + _HEAD.size, payload
                position += _HEAD.size + length
        if position < self._end:
            os.ftruncate(self._descriptor, position)
            self._end = position

    def append(self, payloads: Iterable[bytes], *, durable: bool = True) -> list[int]:
        """Appends all records or none, with one sync, and returns the offsets of their payloads.

        With `durable=False` a crash may lose them. Raises `OSError` (a full disk); the records before are unharmed.
        """
        content, offsets = _records(payloads, self._end)
        try:
            _write_all(self._descriptor, content, self._end)
            if durable:
                _sync(self._descriptor)
        except OSError:
            # Left there, it could one day be read as records behind a shorter batch.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise
        self._end += len(content)
        return offsets

    def sync(self) -> None:
        """Makes durable what was appended. Raises `OSError`. May be called while another thread appends."""
        _sync(self._descriptor)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of a record, from an offset that `append` or `scan` gave."""
        return os.pread(self._descriptor, length, offset)

    def replace(self, payloads: Sequence[bytes]) -> list[int]:
        """Makes the file hold exactly these records, and returns their offsets. A crash leaves the old or the new ones.

        Raises `OSError`; the file is then as it was.
        """
        content, offsets = _records(payloads, len(_MAGIC))
        write_atomically(self.path, _MAGIC + content, mode=0o600)
        replacement = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(replacement, self._descriptor, inheritable=False)  # the number stays good for who syncs just now
        os.close(replacement)
        self._end = len(_MAGIC) + len(content)
        return offsets

    def clear(self) -> None:
        """Forgets all records, at once but not durably: after a crash they may be back."""
        os.ftruncate(self._descriptor, len(_MAGIC))
        self._end = len(_MAGIC)

    def close(self) -> None:
        """Closes the file; nothing may be done with it afterwards."""
        os.close(self._descriptor)


def _records(payloads: Iterable[bytes], start: int) -> tuple[bytes, list[int]]:
    """The payloads as records that begin at `start`, and the offset that each payload then has."""
    pieces: list[bytes] = []
    offsets: list[int] = []
    for payload in payloads:
        length = _LENGTH.pack(len(payload))
        pieces += (length, _LENGTH.pack(crc32(payload, crc32(length))), payload)
        offsets.append(start + _HEAD.size)
        start += _HEAD.size + len(payload)
    return b"".join(pieces), offsets


def _write_all(descriptor: int, content: bytes, position: int) -> None:
    written = os.pwrite(descriptor, content, position)
    while written < len(content):  # a nearly full disk takes a part first and refuses the rest
        written += os.pwrite(descriptor, content[written:], position + written)
