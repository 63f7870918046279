"""The repository's one SQLite database: how it is opened, written and read.

Writers take turns with `BEGIN IMMEDIATE`, readers see a snapshot and never wait; SQLite's own locking does both, also
between processes. A write that returned is on the disk (`synchronous=FULL`).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swamp.data import schema
from swamp.errors import Busy, Invalid, NotFound, SwampError
from swamp.files import make_private_dir, sync_directory

BUSY_TIMEOUT_MS = 10_000  #: how long a statement waits for another process's write before it gives up
ROOM = 65_536  #: bytes; a disk with less is taken for full when SQLite cannot write to it
APPLICATION_ID = 0x53776D70  #: `Swmp` in the file's header tells our databases from other programs' ones


class Store:
    """An open database and the content files beside it. Methods may be called from any thread."""

    def __init__(self, database: Path, blobs: Path, writer: sqlite3.Connection) -> None:
        self.database = database
        self.blobs = blobs
        self._writer = writer
        self._write_turn = threading.Lock()
        self._idle_readers: deque[sqlite3.Connection] = deque()

    @classmethod
    def open(cls, database: Path, blobs: Path, *, create: bool) -> Store:
        """Open `database`, bringing an older schema forward; with `create`, make it and its directory (0700) if absent.

        Raises `NotFound` (`no_data`) if it is absent and not to be created, `Invalid` for a file that is not Swamp's or
        that a newer Swamp wrote, `Busy` if another process holds it too long.
        """
        if not database.is_file():
            if not create:
                raise NotFound(
                    "this repository has no data yet",
                    hint="run something first: swamp workflow run <name>",
                    code="no_data",
                )
            make_private_dir(database.parent)
            sync_directory(database.parent.parent)
            # SQLite gives its side files the mode of the database: outputs are not for other users.
            os.close(os.open(database, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        with _translated(database):
            writer = _connect(database)
            try:
                _prepare(writer, database)
            except BaseException:
                writer.close()
                raise
        return cls(database, blobs, writer)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed and durable when the block ends, rolled back when it raises.

        One at a time, in this process and among all. Not to be nested. Raises `Busy` when the turn does not come within
        `BUSY_TIMEOUT_MS` (`data_busy`) or the disk is full (`disk_full`); nothing of the transaction is kept then.
        """
        with self._write_turn, _translated(self.database), _transaction(self._writer, "BEGIN IMMEDIATE"):
            yield self._writer

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: every statement in the block sees the same committed state. Refuses to write."""
        with _translated(self.database):
            try:
                reader = self._idle_readers.pop()
            except IndexError:
                reader = _connect(self.database)
                reader.execute("PRAGMA query_only = ON")
            try:
                with _transaction(reader, "BEGIN DEFERRED"):
                    yield reader
            finally:
                self._idle_readers.append(reader)

    def close(self) -> None:
        """End all connections; the store cannot be used afterwards. No transaction may be open."""
        while self._idle_readers:
            self._idle_readers.pop().close()
        self._writer.close()


def _connect(database: Path) -> sqlite3.Connection:
    # isolation_level=None: transactions are begun and ended here, never by the sqlite3 module.
    connection = sqlite3.connect(
        database, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _prepare(connection: sqlite3.Connection, database: Path) -> None:
    application = _pragma(connection, "application_id")
    if application == APPLICATION_ID and _pragma(connection, "user_version") == schema.VERSION:
        return
    # Two first commands may meet here. The directory is locked, not a file of ours, so that nothing is left behind.
    directory = os.open(database.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        _claim(connection, database)
        connection.execute("PRAGMA journal_mode = WAL")
        schema.migrate(connection)
    finally:
        os.close(directory)


def _claim(connection: sqlite3.Connection, database: Path) -> None:
    application = _pragma(connection, "application_id")
    if application == APPLICATION_ID:
        return
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != 0 or tables != 0 or _pragma(connection, "user_version") != 0:
        raise Invalid(f"{database} is the database of another program", hint="move it away; Swamp then makes its own")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has already rolled back after some errors, a full disk among them
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _translated(database: Path) -> Iterator[None]:
    """What the disk and other processes do to us becomes an error for people; mistakes in our own SQL stay."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise Busy(
                f"{database} is held by another process for more than {BUSY_TIMEOUT_MS // 1000} seconds",
                hint="try again; if it lasts, look which process has the file open",
                code="data_busy",
            ) from error
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(database.parent)):
            raise Busy(
                f"no space is left on the disk of {database}", hint="make room, then try again", code="disk_full"
            ) from error
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise Invalid(
                f"{database} is not a database, or a damaged one", hint="restore it from a backup", code="data_damaged"
            ) from error
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
            raise SwampError(
                f"{database} cannot be used: {error}",
                hint="check its owner, its permissions and the disk",
                code="data_unusable",
            ) from error
        raise


def _is_full(directory: Path) -> bool:
    """SQLite says no more than `disk I/O error` when there is no room for the files beside the database."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < ROOM
