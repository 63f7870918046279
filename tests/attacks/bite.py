"""`make attacks-bite`: take out each defence in turn, and see its attack succeed.

An attack that is stopped although its defence is gone tests something else than it says.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence

from tests.attacks.bites import HERE, VARIABLE, Bite, every_bite

ROOT = HERE.parents[1]

#: How a test says that what must not happen did.
_SUCCEEDED = re.compile(r"AssertionError|DID NOT RAISE|^E +assert ", re.MULTILINE)


def bites(bite: Bite) -> tuple[bool, str]:
    """Whether the attack succeeds without the defence; and what the test printed."""
    path = os.pathsep.join([str(HERE / "bitten"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", bite.attack],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, VARIABLE: bite.name},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 1 and bool(_SUCCEEDED.search(done.stdout)), done.stdout + done.stderr


def main(names: Sequence[str]) -> int:
    known = every_bite()
    chosen = [known[name] for name in names] if names else list(known.values())
    failed = 0
    for bite in chosen:
        bitten, printed = bites(bite)
        print(f"{'bites' if bitten else 'DOES NOT BITE'}: {bite.name} ({bite.attack})", flush=True)
        if not bitten:
            failed += 1
            print(printed)
    print(f"{len(chosen) - failed} of {len(chosen)} attacks succeed without their defence")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
