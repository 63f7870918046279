"""What was typed and is secret cannot be read from outside once it was wiped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells where arguments lie")

PROGRAM = r"""
import os, sys
from pathlib import Path
from swamp.typed import wipe

def shown():
    return [Path("/proc/self", name).read_bytes() for name in ("cmdline", "environ")]

before = shown()
wipe(sys.argv[1], "", "no" + "where")
assert [content.count(sys.argv[1].encode()) for content in before] == [2, 2]
assert shown() == [content.replace(sys.argv[1].encode(), b"*" * 9) for content in before]
assert sys.argv[1] == "s3cret-\u00e4" and os.environ["A"] == f"x{sys.argv[1]}{sys.argv[1]}"
assert os.environ["PATH"] == os.popen('printf %s "$PATH"').read()
"""


def test_every_place_is_wiped_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", PROGRAM, "s3cret-ä", "--token=s3cret-ä"],
        env={"A": "xs3cret-äs3cret-ä", "PATH": "/usr/bin:/bin", "PYTHONUTF8": "1"},
        check=True,
        cwd=Path(__file__).parents[1],
    )
