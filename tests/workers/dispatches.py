"""Dispatches to hand to a worker's parts."""

from __future__ import annotations

from swamp.models.invocation import Invocation
from swamp.wire.messages import Dispatch


def dispatch(number: int, model_type: str = "command/shell", method: str = "execute", **arguments: object) -> Dispatch:
    """One of a target `node`, for its step `s<number>`."""
    return Dispatch(
        id=f"node--{number}",
        target="node",
        attempt=1,
        incarnation=1,
        expires_at="2026-06-15T12:00:00.000Z",
        run_id="run",
        workflow="w",
        job="j",
        step=f"s{number}",
        grant=False,
        invocation=Invocation("id", "m", model_type, method, arguments),
    )
