"""The commands that README.md and docs/operations.md show for the stack, to be typed as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": ["In containers"], "docs/operations.md": None}
"""The headings that are about the stack; None for all."""


def shown(page: str, heading: str) -> list[list[str]]:
    """The commands of each block of shell below that heading."""
    text = (ROOT / page).read_text(encoding="utf-8")
    (part,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```sh\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
    return [block.strip().splitlines() for block in blocks]


def all_shown() -> set[str]:
    found: set[str] = set()
    for page, headings in PAGES.items():
        text = (ROOT / page).read_text(encoding="utf-8")
        for heading in headings or re.findall(r"^#+ (.*)\n", text, re.MULTILINE):
            found.update(line for block in shown(page, heading) for line in block)
    return found
