"""What was claimed, opened: only what the pinned orchestrator signed for this target, and lately, comes through.

Redis is not believed. Whoever writes it can put anything under a dispatch's id: a changed dispatch, one that was meant
for another target or id, an old one again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from swamp.clock import Timepiece, from_iso
from swamp.wire.codec import Malformed
from swamp.wire.envelope import Box, Refused
from swamp.wire.messages import GENERATION_BYTES, Dispatch, Welcome, dispatch_place, unpack_dispatch
from swamp.wire.signing import Verifier

#: Generations of keys beyond those that the welcome named, in which a number is taken for one that we have missed.
GENERATIONS_AHEAD = 64


class Declines(Exception):
    """The dispatch is not to be run here; `reason` as in `messages.Declined`."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(why)
        self.reason = reason


class Behind(Exception):
    """The orchestrator is further than its welcome to us: join again, then the dispatch can be judged."""


class Opener:
    """For one session."""

    def __init__(self, welcome: Welcome, signing_key: bytes, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`monotonic` gives seconds. Raises `ValueError` for a key that is none."""
        self._target = welcome.target
        self._incarnation = welcome.incarnation
        self._boxes = {generation: Box(key) for generation, key in welcome.target_keys.items()}
        self._newest = max(self._boxes)
        self._verifier = Verifier(signing_key)
        # The orchestrator's time; our own clock may say what it wants.
        then, since = round(from_iso(welcome.clock).timestamp() * 1000) * 1_000_000, monotonic()
        self._now = Timepiece(lambda: then + round((monotonic() - since) * 1e9))

    def open(self, dispatch_id: str, sealed: bytes) -> Dispatch:
        """Raises `Declines` or `Behind`."""
        generation = int.from_bytes(sealed[:GENERATION_BYTES], "big")
        box = self._boxes.get(generation)
        if box is None:
            if self._newest < generation <= self._newest + GENERATIONS_AHEAD:
                raise Behind("the target has a new key")
            raise Declines("unreadable", "it is sealed with a key that the target does not have")
        try:
            signed = box.open(sealed[GENERATION_BYTES:], dispatch_place(dispatch_id))
        except Refused as error:
            raise Declines("unreadable", error.message) from error
        try:
            packed = self._verifier.open(signed)
        except Refused as error:
            raise Declines("unsigned", error.message) from error
        try:
            dispatch = unpack_dispatch(packed)
        except Malformed as error:
            raise Declines("unreadable", error.message) from error
        if dispatch.id != dispatch_id or dispatch.target != self._target:
            raise Declines("foreign", "it is meant for something else")
        if dispatch.incarnation > self._incarnation:
            raise Behind("Redis was filled anew")
        if dispatch.incarnation < self._incarnation or dispatch.expires_at <= self._now():
            raise Declines("expired", "it is from another time")
        return dispatch
