"""The process of an embedded Redis server, found as somebody must who wants to kill it and nobody else."""

from __future__ import annotations

from pathlib import Path

from swamp.broker.server_process import arguments_of


def server_pid(repository: Path) -> int:
    """Raises `ProcessLookupError` when it has ended: its number, which the file still has, may be a stranger's by now,
    on a machine that counts to 32,768 only."""
    directory = repository / ".swamp/redis"
    pid = int((directory / "redis.pid").read_text())
    if str((directory / "redis.conf").resolve()) not in arguments_of(pid):
        raise ProcessLookupError(f"no server runs on {directory}")
    return pid
