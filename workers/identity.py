"""Who this machine is: a key pair in its cache directory, from which its id is made.

In the cache directory: `machine.key` (the private key, 64 hex digits, 0600), `orchestrator.pub` (the public keys that
were pinned at the first join, 64 hex digits each, on two lines), `epoch` (the number of the last start) and `lock`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from swamp.errors import Busy, Invalid, NotAllowed
from swamp.files import create_atomically, make_private_dir, write_atomically
from swamp.wire.envelope import KEY_SIZE, machine_id_of


@dataclass(frozen=True)
class Orchestrator:
    """Who may tell this machine what to do."""

    static: bytes  #: X25519; what the handshake shows
    signing: bytes  #: Ed25519; what dispatches are signed with


class Identity:
    """One machine's identity, held by this process alone until `close`."""

    def __init__(self, directory: Path, *, durable: bool, clock: Callable[[], float]) -> None:
        """Use `load_or_create`."""
        self.directory = directory
        self.durable = durable
        """False without a cache directory: the next start will be another machine, which knows of nothing done here."""
        self._clock = clock
        self._lock = _lock(directory)
        key_file = directory / "machine.key"
        try:
            if not key_file.exists():
                private = X25519PrivateKey.generate().private_bytes_raw()
                create_atomically(key_file, private.hex().encode() + b"\n", mode=0o600)
            key_file.chmod(0o600)
            self.private = X25519PrivateKey.from_private_bytes(*_hex_keys(key_file, 1))
        except BaseException:
            os.close(self._lock)
            raise
        self.public = self.private.public_key().public_bytes_raw()
        self.machine_id = machine_id_of(self.public)

    @classmethod
    def load_or_create(cls, cache_dir: Path | None, clock: Callable[[], float] = time.time) -> Identity:
        """The identity kept in `cache_dir`, made now if there is none.

        Without `cache_dir` it is a new one in a directory that goes away with this process. `clock` gives unix
        seconds. Raises `Busy` when another worker uses the directory, `Invalid` when a file in it is damaged,
        `OSError` when it cannot be written.
        """
        if cache_dir is None:
            directory = Path(tempfile.mkdtemp(prefix="swamp-worker-"))
            identity = cls(directory, durable=False, clock=clock)
            identity._remove = weakref.finalize(identity, shutil.rmtree, directory, ignore_errors=True)
            return identity
        directory = cache_dir.resolve()
        if not directory.exists() or not any(directory.iterdir()) or (directory / "machine.key").exists():
            with suppress(PermissionError):  # a mounted volume may belong to somebody else; our files are 0600
                make_private_dir(directory)
        return cls(directory, durable=True, clock=clock)

    _remove: Callable[[], object] | None = None

    @property
    def pinned(self) -> Orchestrator | None:
        """The orchestrator that this machine joined, None before its first join."""
        path = self.directory / "orchestrator.pub"
        return Orchestrator(*_hex_keys(path, 2)) if path.exists() else None

    def pin(self, orchestrator: Orchestrator) -> None:
        """Remembers, for good, which orchestrator this machine has joined.

        Raises `NotAllowed` when it is another than the one pinned before.
        """
        pinned = self.pinned
        if pinned == orchestrator:
            return
        path = self.directory / "orchestrator.pub"
        if pinned is not None:
            raise NotAllowed(
                "this is not the orchestrator that this machine joined before",
                hint=f"if the orchestrator was set up anew, remove {path} and connect again",
                code="wrong_orchestrator",
            )
        lines = f"{orchestrator.static.hex()}\n{orchestrator.signing.hex()}\n"
        write_atomically(path, lines.encode(), mode=0o600)

    def next_epoch(self) -> int:
        """A number for this start of the worker, greater than that of every start before, durable when returned.

        It is the time in unix milliseconds, unless the clock went back.
        """
        path = self.directory / "epoch"
        last = 0
        if path.exists():
            text = path.read_text(encoding="ascii", errors="replace").strip()
            if not (text.isascii() and text.isdecimal()):
                raise Invalid(f"{path} is damaged", hint=_start_anew(self.directory))
            last = int(text)
        epoch = max(last + 1, int(self._clock() * 1000))
        write_atomically(path, f"{epoch}\n".encode(), mode=0o600)
        return epoch

    def close(self) -> None:
        """Lets another worker use the directory; removes it if it was a temporary one. May be called again."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        if self._remove is not None:
            self._remove()


def _lock(directory: Path) -> int:
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Busy(
            f"another worker is using the cache directory {directory}",
            hint="stop it, or give each worker a --cache-dir of its own",
            code="cache_dir_in_use",
        ) from None
    return descriptor


def _hex_keys(path: Path, count: int) -> list[bytes]:
    try:
        keys = [bytes.fromhex(line) for line in path.read_text(encoding="ascii").split()]
    except ValueError:
        keys = []
    if [len(key) for key in keys] != [KEY_SIZE] * count:
        raise Invalid(f"{path} is damaged: it does not hold {count} keys", hint=_start_anew(path.parent))
    return keys


def _start_anew(directory: Path) -> str:
    return f"restore it from a backup, or remove {directory} to join as a new machine with a new token"
