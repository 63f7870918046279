"""Colour for terminals, and its absence everywhere else."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum


class Colour(Enum):
    """A meaning of the output and the terminal attribute that shows it."""

    GOOD = "32"
    BAD = "31"
    ODD = "33"
    FAINT = "2"


Paint = Callable[[str, Colour], str]


def plain(text: str, colour: Colour) -> str:
    """The text as it is."""
    return text


def coloured(text: str, colour: Colour) -> str:
    """The text in that colour, which ends with it."""
    return f"\x1b[{colour.value}m{text}\x1b[0m" if text else ""
