"""Which view of a run fits the place where it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

from swamp.output.jsonl import JsonLines
from swamp.output.listener import Listener
from swamp.output.terminal import can_move, extent_of, paint_for
from swamp.output.tree import Tree


def listener_for(stream: TextIO, talk: TextIO, environ: Mapping[str, str], *, json: bool) -> Listener:
    """One event a line for `json`, the live view on a terminal, the tree everywhere else."""
    if json:
        return JsonLines(stream, talk)
    if can_move(stream, environ):
        from swamp.output.live import Live

        return Live(stream, lambda: extent_of(stream), paint_for(stream, environ))
    return Tree(stream, talk, lambda: extent_of(stream).columns, paint_for(stream, environ))
