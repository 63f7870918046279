from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swamp.errors import Invalid
from workers.outbox import Outbox

WRITER = """
import os, sys
from pathlib import Path
from workers.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), 10**9):
    names = [f"build--{number}-{part}" for part in range(4)]
    outbox.put_many([(name, name.encode() * 500) for name in names])
    os.write(1, b"".join(b"+" + name.encode() + b"\\n" for name in names))
    if number % 3 == 0:
        outbox.remove(names[:2])
"""


def contents(directory: Path) -> dict[str, bytes]:
    outbox = Outbox(directory)
    found = dict(outbox.items())
    outbox.close()
    return found


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """As on a disk that is nearly full: a write is cut short at `size` bytes, the next one fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_results_wait_in_order_until_they_are_acknowledged(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put("a", b"one")
    outbox.put_many([("b", b"two"), ("c", b"")])
    assert list(outbox.items()) == [("a", b"one"), ("b", b"two"), ("c", b"")]
    assert (len(outbox), outbox.size, "b" in outbox) == (3, 6, True)
    outbox.remove(["b", "never heard of"])
    outbox.close()
    assert contents(tmp_path) == {"a": b"one", "c": b""}


def test_a_result_put_again_has_its_new_content_once(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put_many([("a", b"old"), ("b", b"two")])
    outbox.put("a", b"newer")
    assert list(outbox.items()) == [("b", b"two"), ("a", b"newer")]
    assert outbox.size == 8
    outbox.close()
    assert contents(tmp_path) == {"a": b"newer", "b": b"two"}


def test_a_crash_at_any_byte_keeps_every_batch_before_it_whole(tmp_path: Path) -> None:
    whole = Outbox(tmp_path)
    ends = []
    for number in range(4):
        whole.put(f"build--{number}", b"x" * number * 7)
        ends.append((tmp_path / "outbox").stat().st_size)
    whole.close()
    data = (tmp_path / "outbox").read_bytes()
    for cut in range(len(data)):
        (tmp_path / "outbox").write_bytes(data[:cut])
        complete = sum(end <= cut for end in ends)
        assert list(contents(tmp_path)) == [f"build--{number}" for number in range(complete)]
        outbox = Outbox(tmp_path)
        outbox.put("after", b"the crash")
        outbox.close()
        assert contents(tmp_path)["after"] == b"the crash"


@given(st.data())
def test_damage_is_never_taken_for_a_result(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory = tmp_path_factory.mktemp("outbox")
    outbox = Outbox(directory)
    expected = {f"build--{number}": os.urandom(20) for number in range(3)}
    outbox.put_many(list(expected.items()))
    outbox.close()
    file = directory / "outbox"
    damaged = bytearray(file.read_bytes())
    where = data.draw(st.integers(8, len(damaged) - 1))
    damaged[where] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(bytes(damaged) + data.draw(st.binary(max_size=40)))
    assert contents(directory).items() <= expected.items()


@pytest.mark.parametrize("acknowledged", [1, 37, 200])
def test_whatever_was_kept_is_there_after_kill_9(tmp_path: Path, acknowledged: int) -> None:
    kept: set[str] = set()
    for start in (0, 1_000_000):  # the second writer begins on what the first left
        writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, str(start)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(acknowledged)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
        writer.stdout.close()
        writer.wait()
        kept |= {line[1:-1].decode() for line in lines if line.endswith(b"\n")}
    found = contents(tmp_path)
    for name in kept:
        number, part = name.removeprefix("build--").split("-")
        if int(number) % 3 or int(part) >= 2:  # the others were removed, or about to be
            assert name in found
    assert all(content == name.encode() * 500 for name, content in found.items())


def test_a_full_disk_is_an_error_and_harms_nothing_that_was_there(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put("before", b"x" * 1000)
    with no_file_longer_than(1500):
        with pytest.raises(OSError, match="too large"):
            outbox.put_many([("one", b"y" * 300), ("two", b"z" * 300)])
        assert list(outbox.items()) == [("before", b"x" * 1000)]
        assert list(contents(tmp_path)) == ["before"]  # nor would a crash now bring a part of the batch to life
        outbox.put("small", b"fits")
    outbox.put("later", b"there is room again")
    outbox.close()
    assert list(contents(tmp_path)) == ["before", "small", "later"]


def test_a_full_disk_does_not_keep_results_from_being_acknowledged(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put_many([("a", b"x" * 100), ("b", b"y")])
    with no_file_longer_than((tmp_path / "outbox").stat().st_size):
        outbox.remove(["a"])
    assert list(outbox.items()) == [("b", b"y")]


def test_the_file_does_not_grow_with_what_was_acknowledged(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put("waits all the time", b"precious")
    for number in range(300):
        outbox.put(f"build--{number}", b"x" * 100_000)
        outbox.remove([f"build--{number}"])
        assert (tmp_path / "outbox").stat().st_size < 6 << 20
    assert list(outbox.items()) == [("waits all the time", b"precious")]
    outbox.remove(["waits all the time"])
    outbox.put("last", b"one")
    outbox.close()
    assert contents(tmp_path) == {"last": b"one"}


def test_the_file_is_private_and_a_foreign_one_is_left_alone(tmp_path: Path) -> None:
    Outbox(tmp_path).close()
    assert (tmp_path / "outbox").stat().st_mode & 0o777 == 0o600
    (tmp_path / "outbox").write_text("my letters")
    with pytest.raises(Invalid, match="not a file of a Swamp worker"):
        Outbox(tmp_path)
    assert (tmp_path / "outbox").read_text() == "my letters"
