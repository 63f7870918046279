"""Dispatches as they go into Redis: packed, signed in one batch, each sealed under its target's key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from swamp.clock import iso
from swamp.orchestrator.keys import OrchestratorKeys
from swamp.wire.envelope import Box
from swamp.wire.messages import GENERATION_BYTES, dispatch_place
from swamp.wire.signing import sign_batch

#: How long a dispatch may be begun after it was pushed. One that waits longer is pushed again when a worker says so;
#: workers remember for longer what they have begun.
LIFETIME = timedelta(days=1)


def expiry(now: datetime) -> str:
    """When a dispatch that is pushed now is over."""
    return iso(now + LIFETIME)


def signed_and_sealed(
    keys: OrchestratorKeys, target: str, generation: int, packed: Sequence[tuple[str, bytes]]
) -> list[bytes]:
    """(id, packed dispatch) of one batch, as they may lie in Redis."""
    box = Box(keys.target_key(target, generation))
    head = generation.to_bytes(GENERATION_BYTES, "big")
    signed = sign_batch(keys.signing, [content for _, content in packed])
    return [
        head + box.seal(content, dispatch_place(dispatch))
        for (dispatch, _), content in zip(packed, signed, strict=True)
    ]
