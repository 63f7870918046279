"""One call of one method, and what came of it: the values that travel between an orchestrator and a worker. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from swamp.data.record import Output
from swamp.values import value


@value
class Invocation:
    """Everything that a machine needs to run one method."""

    model_id: str
    model_name: str
    model_type: str
    method: str
    #: Checked against the type's method when the run was accepted; JSON values only. Not shown: they may hold secrets.
    arguments: Mapping[str, object] = field(repr=False)
    tags: Mapping[str, str] = field(default_factory=dict)
    #: Secrets that stand in the arguments, put there for its dispatch (`resolve`): nothing of it may show them.
    secrets: tuple[str, ...] = field(default=(), repr=False)


@value
class Outcome:
    """What came of an invocation. A failed one may have outputs too."""

    status: str  #: `succeeded`, `failed` or `canceled`
    error: str | None  #: why it is not `succeeded`, for people
    outputs: tuple[Output, ...]
    started_at: str
    ended_at: str
    duration_ms: int
