"""The Redis that Debian has (7.0 in Debian 12), beside the one that comes with Swamp.

`make tests` unpacks it into the virtual environment, which takes no root and installs nothing; where there is a
`redis-server` on PATH, that one is taken.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HOME = Path(sys.prefix) / "debian-redis"
PROGRAM = HOME / "redis-server"
_LACKING = HOME / "lacking"


class Lacking(Exception):
    """What keeps it from being had here."""


def program() -> Path | None:
    """The server, None if there is none."""
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return Path(on_path)
    return PROGRAM if PROGRAM.exists() else None


def lacking() -> str:
    """Why there is none."""
    why = _LACKING.read_text() if _LACKING.exists() else "`make tests` unpacks one, and has not run"
    return f"no redis-server on PATH, and {why}"


def unpack() -> None:
    """Debian's packages into HOME. Raises Lacking."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Lacking(f"no {tool} to get Debian's with")
    HOME.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as directory:
        packages, root = Path(directory, "packages"), Path(directory, "root")
        for path in (packages / "partial", Path(directory, "lists/partial")):
            path.mkdir(parents=True)
        get: tuple[str, ...] = (
            *("apt-get", "--quiet", "-o", "Debug::NoLocking=1", "-o", f"Dir::Cache={directory}"),
            *("-o", f"Dir::Cache::archives={packages}/", "-o", "APT::Sandbox::User="),
        )
        wanted = ("install", "--download-only", "--yes", "--no-install-recommends", "redis-server")
        try:
            _run(*get, *wanted)
        except Lacking:
            # This machine keeps no lists of packages, as in most containers, or old ones.
            get = (*get, "-o", f"Dir::State::lists={directory}/lists/")
            _run(*get, "update")
            _run(*get, *wanted)
        for package in packages.glob("*.deb"):
            _run("dpkg-deb", "--extract", str(package), str(root))
        shutil.rmtree(HOME / "root", ignore_errors=True)
        root.rename(HOME / "root")
    libraries = ":".join(str(path) for path in (HOME / "root/usr/lib").glob("*-linux-gnu*"))
    script = HOME / "redis-server.part"
    script.write_text(
        f'#!/bin/sh\nLD_LIBRARY_PATH="{libraries}" exec "{HOME}/root/usr/bin/redis-server" "$@"\n',
    )
    script.chmod(0o755)
    _run(str(script), "--version")
    script.rename(PROGRAM)
    _LACKING.unlink(missing_ok=True)


def _run(*words: str) -> None:
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise Lacking(f"Debian's cannot be had: {words[0]}: {last}")


def main() -> None:
    if program() is not None:
        return
    try:
        unpack()
    except (Lacking, OSError, subprocess.TimeoutExpired) as error:
        HOME.mkdir(exist_ok=True)
        _LACKING.write_text(str(error))
        print(f"Tests with a Redis that is not the bundled one will be skipped: {lacking()}", file=sys.stderr)


if __name__ == "__main__":
    main()
