"""Dispatches as they go into Redis: packed, signed in one batch, each sealed under its target's key."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from swamp.clock import Timepiece
from swamp.wire.envelope import Box
from swamp.wire.messages import GENERATION_BYTES, dispatch_place
from swamp.wire.signing import sign_batch

#: How long a dispatch may be begun after it was pushed. One that waits longer is pushed again when a worker says so;
#: workers remember for longer what they have begun.
LIFETIME = timedelta(days=1)


#: When a dispatch that is pushed now is over, as ISO text.
expiry = Timepiece(lambda: time.time_ns() + LIFETIME // timedelta(microseconds=1) * 1000)


def signed_and_sealed(
    signing: Ed25519PrivateKey, box: Box, generation: int, packed: Sequence[tuple[str, bytes]]
) -> list[bytes]:
    """(id, packed dispatch) of one batch, as they may lie in Redis. `box` has the target's key of this generation."""
    head = generation.to_bytes(GENERATION_BYTES, "big")
    signed = sign_batch(signing, [content for _, content in packed])
    return [
        head + box.seal(content, dispatch_place(dispatch))
        for (dispatch, _), content in zip(packed, signed, strict=True)
    ]
