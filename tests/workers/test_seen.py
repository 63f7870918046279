from __future__ import annotations

import resource
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from workers import seen
from workers.seen import SeenList

WRITER = """
import os, sys
from pathlib import Path
from workers.seen import SeenList
seen = SeenList(Path(sys.argv[1]))
for number in range(10**9):
    new = seen.add([f"build--{number}-{part}" for part in range(3)])
    seen.begin(sorted(new)[:2])
    os.write(1, b"".join(name.encode() + b"\\n" for name in sorted(new)))
"""


def test_an_id_is_new_once_and_never_again(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    first = SeenList(path)
    assert first.add(["a", "b", "a"]) == {"a", "b"}
    assert first.add(["b", "c"]) == {"c"}
    assert first.add(["a", "b", "c"]) == set()
    assert first.add([]) == set()
    first.close()
    again = SeenList(path)
    assert again.add(["a", "b", "c", "d"]) == {"d"}
    assert "d" in again
    assert len(again) == 4
    again.close()


def test_what_was_claimed_is_told_from_what_may_have_started_also_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    first = SeenList(path)
    first.add(["begun", "claimed", "given back"])
    first.begin(["begun", "given back"])
    assert list(first.unstarted) == ["claimed"]
    first.was_not_started(["given back", "never noted"])
    assert list(first.unstarted) == ["claimed", "given back", "never noted"]
    assert first.add(["never noted"]) == set(), "it was said of it that it will not be started here"
    first.close()
    again = SeenList(path)
    assert list(again.unstarted) == ["claimed"]
    names = ("begun", "claimed", "given back", "of somebody else")
    assert [again.may_have_started(name) for name in names] == [True, False, True, False]
    assert again.add(["begun", "claimed", "given back"]) == set()
    again.close()


def test_a_crash_at_any_byte_forgets_no_call_that_was_answered(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    whole = SeenList(path)
    ends, begun = [], []
    for number in range(5):
        whole.add([f"build--{number}-x", f"build--{number}-y"])
        ends.append(path.stat().st_size)
        whole.begin([f"build--{number}-x"])
        begun.append(path.stat().st_size)
    whole.close()
    data = path.read_bytes()
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        complete = sum(end <= cut for end in ends)
        torn = SeenList(path)
        assert len(torn) == 2 * complete
        assert len(torn.unstarted) == 2 * complete - sum(end <= cut for end in begun)
        assert torn.add(["after"]) == {"after"}
        torn.close()
        mended = SeenList(path)
        assert len(mended) == 2 * complete + 1
        mended.close()


@pytest.mark.parametrize("answered", [1, 50, 400])
def test_whatever_was_answered_is_seen_after_kill_9(tmp_path: Path, answered: int) -> None:
    path = tmp_path / "seen"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(answered)]
    writer.send_signal(signal.SIGKILL)
    lines += writer.stdout.readlines()
    writer.stdout.close()
    writer.wait()
    again = SeenList(path)
    answered_ids = [line[:-1].decode() for line in lines if line.endswith(b"\n")]
    assert again.add(answered_ids) == set()
    assert {name for name in answered_ids if not again.may_have_started(name)} == set(answered_ids[2::3])
    again.close()


def test_what_cannot_be_made_durable_is_not_seen(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    full = SeenList(path)
    full.add(["before"])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            full.add(["build--0123456789-0123456789"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert full.add(["before", "build--0123456789-0123456789"]) == {"build--0123456789-0123456789"}
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            full.begin(["before"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not full.may_have_started("before")
    full.close()
    again = SeenList(path)
    assert len(again) == 2
    assert not again.may_have_started("before")
    again.close()


def test_the_list_is_bounded_and_keeps_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "MAX_IDS", 100)
    path = tmp_path / "seen"
    bounded = SeenList(path)
    for number in range(1000):
        bounded.add([f"build--{number}"])
        bounded.begin([f"build--{number}"])
        assert len(bounded) <= 100
        assert bounded.add([f"build--{old}" for old in range(max(0, number - 49), number + 1)]) == set()
    bounded.close()
    again = SeenList(path)
    assert again.add([f"build--{number}" for number in range(950, 1000)]) == set()
    assert again.unstarted == ()
    again.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 10_000


def test_without_room_for_a_new_file_the_list_goes_on_in_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "MAX_IDS", 100)
    path = tmp_path / "seen"
    bounded = SeenList(path)
    (tmp_path / "seen.new").mkdir()  # in the way of the new file
    for number in range(60):
        assert bounded.add([f"build--{number}"]) == {f"build--{number}"}
    assert not (tmp_path / "seen.older").exists()
    (tmp_path / "seen.new").rmdir()
    for number in range(60, 80):
        bounded.add([f"build--{number}"])
    assert (tmp_path / "seen.older").exists()
    assert bounded.add([f"build--{number}" for number in range(80)]) == set()
    bounded.close()


@pytest.mark.parametrize("renamed", [1, 2])
def test_a_crash_while_a_new_file_is_begun_forgets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    """Between the two renames, and behind them."""
    monkeypatch.setattr(seen, "MAX_IDS", 100)
    path = tmp_path / "seen"
    first = SeenList(path)
    names = [f"build--{number}" for number in range(50)]
    first.add(names)
    first.close()
    path.rename(tmp_path / "seen.older")
    if renamed == 2:
        SeenList(path).close()
    again = SeenList(path)
    assert again.add([*names, "new"]) == {"new"}
    again.close()


def test_many_ids_take_little_memory(tmp_path: Path) -> None:
    """What they hold beyond their digests: measured, so that a worker that has run for long stays small."""
    tracemalloc.start()
    many = SeenList(tmp_path / "seen")
    before = tracemalloc.get_traced_memory()[0]
    for number in range(200):
        names = [f"build-node--7f3e0f53-5f0e-4c6e-9a55-0d0f3b1f8a1c-{number * 500 + part}-1" for part in range(500)]
        many.add(names)
        many.begin(names)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(many) == 100_000
    many.close()
    assert grown / 100_000 < 32
