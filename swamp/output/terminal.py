"""What a stream can show: is it a terminal, how large, with colours?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple, TextIO

from swamp.output.paint import Paint, coloured, plain


class Extent(NamedTuple):
    """The size of a terminal, in characters."""

    columns: int
    rows: int


Size = Callable[[], Extent]  #: asked at every drawing, so that a resized window is noticed without a signal

PIPE = Extent(80, 24)  #: what a pipe is taken for, and a terminal that does not know its size


def extent_of(stream: TextIO) -> Extent:
    """The present size of the stream's terminal; `PIPE` for everything else."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return PIPE
    return Extent(columns or PIPE.columns, rows or PIPE.rows)


def can_move(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the stream is a terminal on which lines can be drawn anew."""
    return stream.isatty() and environ.get("TERM", "dumb") != "dumb"


def paint_for(stream: TextIO, environ: Mapping[str, str]) -> Paint:
    """Colours for terminals that have them, unless `NO_COLOR` asks for none."""
    return coloured if can_move(stream, environ) and not environ.get("NO_COLOR") else plain
