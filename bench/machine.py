"""Where the figures come from: without this they mean nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import swamp
from bench.peers import PROGRAMS
from swamp.broker.server_program import find_server
from swamp.clock import iso


def describe(now: datetime) -> dict[str, str]:
    ours = ("redis", "msgpack", "cryptography", "starlette", "uvicorn", "websockets")
    server = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True).stdout.split()
    return {
        "at": iso(now),
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "server": f"{server[0]} {next((word[2:] for word in server if word.startswith('v=')), '?')}",
        "swamp": f"{swamp.__version__} ({', '.join(f'{name} {version(name)}' for name in ours)})",
        "peers": ", ".join(_pinned()),
        "load at start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _pinned() -> list[str]:
    """The peers and their client for Redis, with their versions."""
    lines = [line for file in sorted(PROGRAMS.glob("*.txt")) for line in file.read_text().splitlines()]
    return sorted({line for line in lines if line.partition("==")[0] in ("huey", "rq", "redis", "hiredis")})


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
