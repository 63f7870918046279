"""What the database promises about writers, readers, crashes and strangers' files."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swamp.data import schema
from swamp.data import store as store_module
from swamp.data.blobs import INLINE_LIMIT
from swamp.data.store import Store
from swamp.data.versions import add_versions, list_versions, read_content
from swamp.errors import Busy, Invalid, NotFound, SwampError
from tests.data.samples import resource

ROOT = Path(__file__).parents[2]


def writer(directory: Path, *, batches: int, items: int, size: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.data.writer", str(directory), str(batches), str(items), str(size)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def count(store: Store) -> int:
    with store.read() as tx:
        return int(tx.execute("SELECT count(*) FROM data").fetchone()[0])


def test_the_database_is_for_its_owner_only(store: Store) -> None:
    with store.write() as tx:
        add_versions(tx, store.blobs, [resource({"big": "x" * INLINE_LIMIT})])
    for path in (store.database, *store.blobs.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE(store.database.parent.stat().st_mode) == 0o700


def test_a_missing_database_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as error:
        Store.open(tmp_path / "data" / "swamp.db", tmp_path / "blobs", create=False)
    assert error.value.code == "no_data"
    assert list(tmp_path.iterdir()) == []


def test_the_database_of_another_program_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "swamp.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE data (theirs)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(Invalid, match="another program"):
        Store.open(path, tmp_path / "blobs", create=True)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "swamp.db"
    path.write_bytes(b"my holiday pictures\n" * 100)
    with pytest.raises(Invalid, match="not a database"):
        Store.open(path, tmp_path / "blobs", create=True)
    assert path.read_bytes() == b"my holiday pictures\n" * 100


def test_the_database_of_a_newer_swamp_is_refused(store: Store) -> None:
    with store.write() as tx:
        tx.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    with pytest.raises(Invalid, match="schema version"):
        Store.open(store.database, store.blobs, create=True)


def test_a_failed_block_writes_nothing(store: Store) -> None:
    with pytest.raises(KeyError), store.write() as tx:
        raise KeyError(add_versions(tx, store.blobs, [resource({})])[0].id)
    assert count(store) == 0
    with store.write() as tx:  # and the next one is not disturbed
        add_versions(tx, store.blobs, [resource({})])
    assert count(store) == 1


def test_readers_do_not_wait_for_a_writer_and_see_no_half_of_a_transaction(store: Store) -> None:
    with store.write() as tx:
        add_versions(tx, store.blobs, [resource({}), resource({})])
        assert count(store) == 0
    assert count(store) == 2


def test_a_reader_sees_one_state_as_long_as_it_reads(store: Store) -> None:
    with store.read() as reader:
        assert reader.execute("SELECT count(*) FROM data").fetchone() == (0,)
        with store.write() as tx:
            add_versions(tx, store.blobs, [resource({})])
        assert reader.execute("SELECT count(*) FROM data").fetchone() == (0,)
    assert count(store) == 1


def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(SwampError, match="cannot be used"), store.read() as tx:
        tx.execute("DELETE FROM data")


def test_threads_take_turns(store: Store) -> None:
    def write() -> None:
        for _ in range(20):
            with store.write() as tx:
                add_versions(tx, store.blobs, [resource({})])

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as tx:
        assert [version.version for version in list_versions(tx, "remote-echo", "result")] == list(range(160, 0, -1))


def test_a_writer_that_does_not_get_its_turn_is_told_to_try_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BUSY_TIMEOUT_MS", 10)
    impatient = Store.open(store.database, store.blobs, create=False)
    with store.write(), pytest.raises(Busy) as error, impatient.write():
        pytest.fail("two writers at once")
    assert error.value.exit_code == 75
    impatient.close()


def test_a_full_disk_is_told_and_leaves_what_was_there(store: Store) -> None:
    with store.write() as tx:
        add_versions(tx, store.blobs, [resource({})])
        pages = tx.execute("PRAGMA page_count").fetchone()[0]
        tx.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(Busy) as error, store.write() as tx:
        add_versions(tx, store.blobs, [resource({"text": "x" * 1000}) for _ in range(1000)])
    assert error.value.code == "disk_full"
    assert count(store) == 1
    with store.write() as tx:
        tx.execute("PRAGMA max_page_count = 1000000")
        add_versions(tx, store.blobs, [resource({"text": "x" * 1000}) for _ in range(1000)])
    assert count(store) == 1001


def test_all_who_open_a_new_database_at_once_find_it_whole(tmp_path: Path) -> None:
    def open_and_count(directory: Path) -> int:
        start.wait()
        opened = Store.open(directory / "swamp.db", directory / "blobs", create=True)
        try:
            return count(opened)
        finally:
            opened.close()

    start = threading.Barrier(8)
    with ThreadPoolExecutor(8) as threads:
        for number in range(10):
            assert list(threads.map(open_and_count, [tmp_path / str(number)] * 8)) == [0] * 8


def test_processes_that_create_and_write_at_once_lose_nothing(tmp_path: Path) -> None:
    writers = [writer(tmp_path, batches=25, items=4, size=10) for _ in range(5)]
    for process in writers:
        process.communicate(timeout=60)
        assert process.returncode == 0
    store = Store.open(tmp_path / "swamp.db", tmp_path / "blobs", create=False)
    with store.read() as tx:
        assert [version.version for version in list_versions(tx, "remote-echo", "log")] == list(range(500, 0, -1))
    store.close()


@pytest.mark.parametrize("acknowledgements", [1, 7, 30])
def test_a_killed_writer_leaves_whole_transactions_and_all_it_was_promised(
    tmp_path: Path, acknowledgements: int
) -> None:
    process = writer(tmp_path, batches=1_000_000, items=3, size=INLINE_LIMIT + 1)
    assert process.stdout is not None
    for _ in range(acknowledgements):
        promised = int(process.stdout.readline())
    process.kill()
    process.wait()
    promised = max(promised, *map(int, process.stdout.read().split()), 0)
    process.stdout.close()
    store = Store.open(tmp_path / "swamp.db", tmp_path / "blobs", create=False)
    with store.read() as tx:
        kept = list_versions(tx, "remote-echo", "log")
        assert len(kept) >= promised
        assert len(kept) % 3 == 0
        assert all(len(read_content(tx, store.blobs, version)) == version.size for version in kept)
    with store.write() as tx:
        [added] = add_versions(tx, store.blobs, [resource({}, name="log")])
    assert added.version == len(kept) + 1
    store.close()
