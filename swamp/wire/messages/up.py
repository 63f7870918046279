"""What a worker says: up the stream of its machine, sealed and numbered."""

from __future__ import annotations

from swamp.values import value
from swamp.wire.codec import Malformed, pack
from swamp.wire.messages.fields import as_map, moment, take, texts

#: What a message up is sealed for (the authenticated data).
UP = b"up"


@value
class Started:
    """The step's child process starts now. Comes with the removal of the claim, in one step of the server."""

    dispatch: str
    at: str


@value
class Dropped:
    """The claim was gone (taken back) when the step should have begun. Nothing was started.

    It is sealed when that is known, never beforehand: whoever listens in on the server must not come by one that
    might still become untrue.
    """

    dispatch: str


@value
class Declined:
    """The machine will not run this dispatch, and gives its claim up. `reason`:

    `seen`       it has seen the id before, and cannot tell that it did not start it
    `unstarted`  it has seen the id before, and knows that it did not start it
    `gone`       the job's hash is not there

    and of a dispatch that it has not seen before:

    `unreadable` the seal does not open, or what is in it is no dispatch
    `unsigned`   the orchestrator that it joined has not signed it, or not as it is now
    `foreign`    it is meant for another target or for another id
    `expired`    its time is over, or it is from before Redis was last filled
    """

    dispatch: str
    reason: str


@value
class Wants:
    """The machine has claimed a dispatch that needs a grant, and would begin it."""

    dispatch: str


@value
class OutputLines:
    dispatch: str
    stream: str  #: `stdout` or `stderr`
    text: str  #: whole lines, without the last newline


@value
class Finished:
    """The result lies in the results hash."""

    dispatch: str


@value
class Inventory:
    """What the machine has, said after every join and before it leaves; what it does not name it does not have."""

    draining: bool  #: it takes no more: its claims can go to others
    running: tuple[str, ...]
    outbox: tuple[str, ...]  #: results sent and not acknowledged
    dropped: tuple[str, ...]  #: claims of which it cannot know whether they were begun; it started none of them


@value
class Heartbeat:
    """Has numbers of its own (1, 2, 3 … within the epoch): a lost one costs nothing, a repeated one proves nothing."""

    boot: str  #: the start of the orchestrator that it is meant for
    running: int
    slots: int
    holding: tuple[str, ...]  #: claims that it knows of and has not begun
    said: int  #: the number of its last message; one that is missing then was taken out of the stream


UpBody = Wants | Started | Dropped | Declined | OutputLines | Finished | Inventory | Heartbeat


@value
class Up:
    epoch: int  #: the boot of the worker that says it
    number: int  #: 1, 2, 3 … within the epoch, no gaps; heartbeats count by themselves
    body: UpBody


def pack_up(epoch: int, number: int, body: UpBody) -> bytes:
    message: dict[str, object] = {"epoch": epoch, "number": number}
    match body:
        case Wants():
            message |= {"kind": "wants", "dispatch": body.dispatch}
        case Started():
            message |= {"kind": "started", "dispatch": body.dispatch, "at": body.at}
        case Dropped():
            message |= {"kind": "dropped", "dispatch": body.dispatch}
        case Declined():
            message |= {"kind": "declined", "dispatch": body.dispatch, "reason": body.reason}
        case OutputLines():
            message |= {"kind": "output", "dispatch": body.dispatch, "stream": body.stream, "text": body.text}
        case Finished():
            message |= {"kind": "finished", "dispatch": body.dispatch}
        case Inventory():
            message |= {
                "kind": "inventory",
                "draining": body.draining,
                "running": body.running,
                "outbox": body.outbox,
                "dropped": body.dropped,
            }
        case Heartbeat():
            message |= {
                "kind": "heartbeat",
                "boot": body.boot,
                "running": body.running,
                "slots": body.slots,
                "holding": body.holding,
                "said": body.said,
            }
    return pack(message)


def unpack_up(data: bytes) -> Up:
    """Raises `Malformed`."""
    message = as_map(data)
    kind = message.get("kind")
    body: UpBody
    if kind == "started":
        body = Started(take(message, "dispatch", str), moment(message, "at"))
    elif kind == "finished":
        body = Finished(take(message, "dispatch", str))
    elif kind == "output":
        stream = take(message, "stream", str)
        if stream not in ("stdout", "stderr"):
            raise Malformed(f"'{stream}' is no stream of a step")
        body = OutputLines(take(message, "dispatch", str), stream, take(message, "text", str))
    elif kind == "wants":
        body = Wants(take(message, "dispatch", str))
    elif kind == "dropped":
        body = Dropped(take(message, "dispatch", str))
    elif kind == "declined":
        body = Declined(take(message, "dispatch", str), take(message, "reason", str))
    elif kind == "inventory":
        body = Inventory(
            take(message, "draining", bool),
            texts(message, "running"),
            texts(message, "outbox"),
            texts(message, "dropped"),
        )
    elif kind == "heartbeat":
        body = Heartbeat(
            take(message, "boot", str),
            take(message, "running", int),
            take(message, "slots", int),
            texts(message, "holding"),
            take(message, "said", int),
        )
    else:
        raise Malformed(f"a worker says something of kind {kind!r}")
    return Up(take(message, "epoch", int), take(message, "number", int), body)
