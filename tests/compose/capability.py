"""What a machine needs to run containers, beyond what can be installed: `python -m tests.compose.capability`."""

from __future__ import annotations

import os
import subprocess


def missing_capability() -> str | None:
    """What this machine lacks to run containers at all."""
    if os.geteuid() != 0:
        return "not root"
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return None if done.returncode == 0 else "no network namespaces"


if __name__ == "__main__":
    print(missing_capability() or "")
