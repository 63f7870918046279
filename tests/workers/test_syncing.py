"""A file is synced beside other work, and what needs it to be on disk waits for that."""

from __future__ import annotations

import threading

from workers.syncing import Syncing


class Disk:
    """A sync that takes as long as the test says."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.error: OSError | None = None

    def sync(self) -> None:
        self.begun.release()
        assert self.may_end.acquire(timeout=10)
        if self.error is not None:
            raise self.error


def waiting(syncing: Syncing) -> tuple[threading.Thread, list[OSError | None]]:
    ended: list[OSError | None] = []

    def wait() -> None:
        try:
            syncing.wait()
            ended.append(None)
        except OSError as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, ended


def test_who_waits_waits_for_a_sync_that_began_after_the_last_write() -> None:
    disk = Disk()
    syncing = Syncing(disk.sync)
    syncing.begin()
    assert disk.begun.acquire(timeout=10)
    syncing.begin()  # what was written now is not in the sync that is under way
    thread, ended = waiting(syncing)
    disk.may_end.release()
    assert disk.begun.acquire(timeout=10)
    assert not ended
    disk.may_end.release()
    thread.join(10)
    assert ended == [None]


def test_a_sync_that_fails_is_told_to_who_waits_also_when_a_later_one_succeeds_and_only_once() -> None:
    disk = Disk()
    heard: list[OSError] = []
    syncing = Syncing(disk.sync, heard.append)
    disk.error = OSError("no")
    syncing.begin()
    disk.may_end.release()
    while not heard:
        assert disk.begun.acquire(timeout=10)
    disk.error = None
    syncing.begin()
    disk.may_end.release()
    thread, ended = waiting(syncing)
    thread.join(10)
    assert ended == heard
    syncing.wait()
