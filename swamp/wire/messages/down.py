"""What the orchestrator says to a machine: down its stream, sealed and numbered."""

from __future__ import annotations

from swamp.values import value
from swamp.wire.codec import Malformed, pack
from swamp.wire.messages.fields import as_map, take

#: What a message down is sealed for (the authenticated data).
DOWN = b"down"


@value
class Acknowledge:
    """Everything of this epoch up to this number is on disk."""

    epoch: int
    number: int


@value
class Cancel:
    """End the step: TERM, and KILL after `grace` seconds."""

    dispatch: str
    reason: str
    grace: float


@value
class Grant:
    """This start of this machine may begin the dispatch; nobody else may."""

    dispatch: str
    epoch: int


DownBody = Acknowledge | Cancel | Grant


@value
class Down:
    boot: str  #: the start of the orchestrator that says it
    number: int  #: grows within the boot
    body: DownBody


def pack_down(boot: str, number: int, body: DownBody) -> bytes:
    message: dict[str, object] = {"boot": boot, "number": number}
    match body:
        case Acknowledge():
            message |= {"kind": "acknowledge", "epoch": body.epoch, "upTo": body.number}
        case Grant():
            message |= {"kind": "grant", "dispatch": body.dispatch, "epoch": body.epoch}
        case Cancel():
            message |= {"kind": "cancel", "dispatch": body.dispatch, "reason": body.reason, "grace": body.grace}
    return pack(message)


def unpack_down(data: bytes) -> Down:
    """Raises `Malformed`."""
    message = as_map(data)
    kind = message.get("kind")
    body: DownBody
    if kind == "acknowledge":
        body = Acknowledge(take(message, "epoch", int), take(message, "upTo", int))
    elif kind == "grant":
        body = Grant(take(message, "dispatch", str), take(message, "epoch", int))
    elif kind == "cancel":
        body = Cancel(take(message, "dispatch", str), take(message, "reason", str), take(message, "grace", float))
    else:
        raise Malformed(f"the orchestrator says something of kind {kind!r}")
    return Down(take(message, "boot", str), take(message, "number", int), body)
