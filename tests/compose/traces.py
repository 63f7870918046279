"""What an engine would leave on its host."""

from __future__ import annotations

import os
from pathlib import Path

from tests.compose.engine import NAMESPACE, run


def traces_of(directory: Path) -> set[str]:
    """Processes, mounts and the namespace of the engine in that directory, and what engines add to a host's network."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    links = [line.split(":")[1].strip() for line in run("ip", "-oneline", "link").splitlines()]
    return {
        *(f"mount {mount}" for mount in mounts if str(directory) in mount or NAMESPACE in mount),
        *(f"process {line}" for line in _command_lines() if str(directory) in line),
        *(f"link {link}" for link in links if link.startswith(("docker", "br-"))),
        *(f"rule {rule}" for rule in run("iptables-save").splitlines() if "DOCKER" in rule),
        *(f"namespace {line}" for line in run("ip", "netns").splitlines() if NAMESPACE in line),
        *([str(directory)] if directory.exists() else []),
    }


def _command_lines() -> list[str]:
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                found.append(Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue  # it has ended
    return found
