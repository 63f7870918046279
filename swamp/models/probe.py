"""The model type `swamp/probe`: a step without the cost of a process, for measuring and for checking a fleet."""

from __future__ import annotations

import json

from swamp.clock import iso_now
from swamp.data.record import Output
from swamp.models.invocation import Invocation
from swamp.models.surroundings import Ending, Surroundings

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def echo(invocation: Invocation, surroundings: Surroundings, started_at: str) -> Ending:
    """Give the message back, with the machine that had it and when."""
    attributes = {
        "message": invocation.arguments["message"],
        "machine": surroundings.machine,
        "startedAt": started_at,
        "answeredAt": iso_now(),
    }
    content = _JSON.encode(attributes).encode()
    return Ending(
        "succeeded", None, (Output("result", "result", "resource", "application/json", content, invocation.tags),)
    )
