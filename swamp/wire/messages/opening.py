"""The frames before the handshake is done, in the clear."""

from __future__ import annotations

from dataclasses import dataclass

from swamp.wire.codec import Malformed, pack, unpack
from swamp.wire.messages.fields import take
from swamp.wire.messages.session import Refusal

PROTOCOL = 1


@dataclass(frozen=True, slots=True)
class Opening:
    """The first frame: the token's name in clear, and the first handshake message."""

    protocol: int
    token: str
    noise: bytes


def pack_opening(opening: Opening) -> bytes:
    return pack({"protocol": opening.protocol, "token": opening.token, "noise": opening.noise})


def unpack_opening(data: bytes) -> Opening:
    """Raises `Malformed`."""
    message = unpack(data, limit=4096)
    if not isinstance(message, dict):
        raise Malformed("the opening is no map")
    return Opening(take(message, "protocol", int), take(message, "token", str), take(message, "noise", bytes))


def pack_reply(noise: bytes) -> bytes:
    """The orchestrator's handshake message."""
    return pack({"noise": noise})


def pack_clear_refusal(refusal: Refusal) -> bytes:
    """A refusal before there is a key to prove it with."""
    return pack({"code": refusal.code, "message": refusal.message})


def unpack_reply(data: bytes) -> bytes | Refusal:
    """Raises `Malformed`."""
    message = unpack(data, limit=4096)
    if not isinstance(message, dict):
        raise Malformed("the reply is no map")
    if "noise" in message:
        return take(message, "noise", bytes)
    return Refusal(take(message, "code", str), take(message, "message", str))


#: Where the worker's WebSocket goes on the orchestrator's port.
SESSION_PATH = "/worker"


def prologue(token_name: str) -> bytes:
    """What both sides must agree on before the first handshake message."""
    return b"swamp1 " + token_name.encode()
