from __future__ import annotations

import resource
import signal
import subprocess
import sys
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


def test_a_crash_at_any_byte_forgets_no_call_that_was_answered(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    whole = SeenList(path)
    ends = []
    for number in range(5):
        whole.add([f"build--{number}-x", f"build--{number}-y"])
        ends.append(path.stat().st_size)
    whole.close()
    data = path.read_bytes()
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        complete = sum(end <= cut for end in ends)
        torn = SeenList(path)
        assert len(torn) == 2 * complete
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
    assert again.add([line[:-1].decode() for line in lines if line.endswith(b"\n")]) == set()
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
    full.close()
    again = SeenList(path)
    assert len(again) == 2
    again.close()


def test_ids_are_forgotten_after_thirty_days_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    now = 1_000_000_000.0
    first = SeenList(path, clock=lambda: now)
    first.add(["old"])
    now += 86_400 * 29
    first.add(["young"])
    first.close()
    second = SeenList(path, clock=lambda: now)
    assert len(second) == 2
    second.close()
    before = path.stat().st_size
    now += 86_400 * 2
    third = SeenList(path, clock=lambda: now)
    assert "old" not in third
    assert third.add(["young"]) == set()
    assert path.stat().st_size < before
    third.close()


def test_the_list_is_bounded_and_keeps_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "MAX_IDS", 100)
    path = tmp_path / "seen"
    bounded = SeenList(path)
    for number in range(1000):
        bounded.add([f"build--{number}"])
        assert len(bounded) <= 100
    assert bounded.add([f"build--{number}" for number in range(960, 1000)]) == set()
    bounded.close()
    again = SeenList(path)
    assert again.add([f"build--{number}" for number in range(960, 1000)]) == set()
    again.close()
    assert path.stat().st_size < 10_000
