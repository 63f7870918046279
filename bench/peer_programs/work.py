"""The work, the same for every peer: what `swamp/probe` and `command/shell` do for Swamp."""

from __future__ import annotations

import subprocess
import time


def noop(message: str) -> dict[str, object]:
    return {"message": message, "answeredAt": time.time()}


def shell(message: str) -> dict[str, object]:
    done = subprocess.run(["sh", "-c", "echo executed on a worker"], capture_output=True, text=True, check=False)
    return {"message": message, "stdout": done.stdout, "exitCode": done.returncode, "answeredAt": time.time()}
