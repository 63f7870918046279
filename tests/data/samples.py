"""Data as a method would leave it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from swamp.data.record import Origin, Output
from swamp.data.versions import NewData

NOON = "2026-06-15T12:00:00.000Z"


def resource(
    attributes: object,
    *,
    model: str = "remote-echo",
    name: str = "result",
    spec: str = "result",
    tags: Mapping[str, str] | None = None,
    created_at: str = NOON,
    origin: Origin | None = None,
) -> NewData:
    """A resource: `attributes` as JSON."""
    output = Output(spec, name, "resource", "application/json", json.dumps(attributes).encode(), tags or {})
    return NewData(f"id-of-{model}", model, "command/shell", output, origin or Origin(), created_at)


def file(content: bytes, *, model: str = "remote-echo", name: str = "log") -> NewData:
    """A file with exactly `content`."""
    output = Output("log", name, "file", "text/plain", content)
    return NewData(f"id-of-{model}", model, "command/shell", output, Origin(), NOON)
