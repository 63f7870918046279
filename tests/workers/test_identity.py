from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from swamp.errors import Busy, Invalid, NotAllowed
from swamp.wire.envelope import machine_id_of
from workers.identity import Identity, Orchestrator

HOLDER = """
import sys
from pathlib import Path
from workers.identity import Identity, Orchestrator
identity = Identity.load_or_create(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
print(identity.machine_id, identity.next_epoch(), identity.directory, flush=True)
sys.stdin.read()
"""


def test_a_cache_directory_makes_the_same_machine_every_time(tmp_path: Path) -> None:
    first = Identity.load_or_create(tmp_path / "deep" / "cache")
    first.close()
    second = Identity.load_or_create(tmp_path / "deep" / "cache")
    assert second.public == first.public
    assert second.machine_id == first.machine_id == machine_id_of(first.public)
    assert len(first.machine_id) == 20
    assert second.durable
    second.close()


def test_nobody_else_can_read_the_key(tmp_path: Path) -> None:
    old_mask = os.umask(0)
    try:
        Identity.load_or_create(tmp_path / "cache").close()
    finally:
        os.umask(old_mask)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "cache" / "machine.key").stat().st_mode & 0o777 == 0o600


def test_a_directory_that_holds_other_things_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    tmp_path.chmod(0o755)
    Identity.load_or_create(tmp_path).close()
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_two_workers_never_share_a_cache_directory(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdin is not None
    machine, first_epoch = holder.stdout.readline().decode().split()[:2]
    with pytest.raises(Busy) as refused:
        Identity.load_or_create(tmp_path)
    assert str(tmp_path) in refused.value.message
    assert "--cache-dir" in (refused.value.hint or "")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    survivor = Identity.load_or_create(tmp_path)
    assert survivor.machine_id == machine
    assert survivor.next_epoch() > int(first_epoch)
    survivor.close()


def test_without_a_cache_directory_nothing_stays_behind() -> None:
    identity = Identity.load_or_create(None)
    assert not identity.durable
    assert identity.directory.is_dir()
    identity.close()
    identity.close()
    assert not identity.directory.exists()

    said = subprocess.run([sys.executable, "-c", HOLDER], input=b"", capture_output=True, check=True).stdout.decode()
    machine, _, directory = said.split()
    assert not Path(directory).exists()
    assert machine != identity.machine_id


def test_epochs_grow_even_when_the_clock_goes_back(tmp_path: Path) -> None:
    now = 2_000_000.0
    identity = Identity.load_or_create(tmp_path, clock=lambda: now)
    first = identity.next_epoch()
    assert first == 2_000_000_000
    assert identity.next_epoch() == first + 1
    identity.close()
    now = 1_000.0
    later = Identity.load_or_create(tmp_path, clock=lambda: now)
    assert later.next_epoch() == first + 2
    now = 3_000_000.0
    assert later.next_epoch() == 3_000_000_000
    later.close()


def test_an_orchestrator_is_pinned_once(tmp_path: Path) -> None:
    identity = Identity.load_or_create(tmp_path)
    assert identity.pinned is None
    ours = Orchestrator(bytes(range(32)), bytes(32))
    identity.pin(ours)
    identity.pin(ours)
    for other in (Orchestrator(bytes(32), bytes(32)), Orchestrator(bytes(range(32)), bytes(range(32)))):
        with pytest.raises(NotAllowed, match="not the orchestrator") as refused:
            identity.pin(other)
        assert "orchestrator.pub" in (refused.value.hint or "")
    identity.close()
    again = Identity.load_or_create(tmp_path)
    assert again.pinned == ours
    again.close()


@pytest.mark.parametrize("name", ["machine.key", "orchestrator.pub", "epoch"])
@pytest.mark.parametrize("content", [b"", b"xyz", b"\xff\xfe", b"ab" * 31])
def test_a_damaged_file_is_named_and_never_replaced(tmp_path: Path, name: str, content: bytes) -> None:
    Identity.load_or_create(tmp_path).close()
    (tmp_path / name).write_bytes(content)

    def use() -> None:
        identity = Identity.load_or_create(tmp_path)
        try:
            _ = identity.pinned
            identity.next_epoch()
        finally:
            identity.close()

    with pytest.raises(Invalid, match="is damaged") as damaged:
        use()
    assert name in damaged.value.message
    assert damaged.value.hint
    assert (tmp_path / name).read_bytes() == content
    with pytest.raises(Invalid):  # and not Busy: the lock was let go
        use()
