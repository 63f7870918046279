"""Every message between an orchestrator and a worker, as values. Pure; `docs/protocol.md` has the written form.

A message is a map with readable keys inside a seal. Readers ignore keys that they do not know and refuse (`Malformed`)
a message whose known keys do not hold what they should: what passed here can be relied on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

from swamp.clock import from_iso
from swamp.data.record import Blob, Output
from swamp.models.invocation import Invocation, Outcome
from swamp.wire.codec import Malformed, pack, unpack
from swamp.wire.envelope import KEY_SIZE

PROTOCOL = 1

#: What a message is sealed for (the authenticated data); a result and a dispatch add their dispatch id.
UP = b"up"
DOWN = b"down"


def result_place(dispatch: str) -> bytes:
    return b"result " + dispatch.encode()


def dispatch_place(dispatch: str) -> bytes:
    return b"dispatch " + dispatch.encode()


#: Before a sealed dispatch stands the generation of the target's key that opens it, big-endian.
GENERATION_BYTES = 4
MOST_GENERATIONS = (1 << 8 * GENERATION_BYTES) - 1


T = TypeVar("T")

LONGEST = 1e9  #: seconds that anybody may ask for

#: Times as `clock.iso` writes them: they go to tools that read nothing else.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


def _take(message: Mapping[str, object], key: str, kind: type[T]) -> T:
    value = message.get(key)
    if not isinstance(value, kind):
        raise Malformed(f"a message holds no {kind.__name__} under '{key}'")
    # bool is an int to isinstance, and no number to us; nor is there room in the database for more than 63 bits.
    if kind is int and (isinstance(value, bool) or not 0 <= cast("int", value) < 1 << 63):
        raise Malformed(f"a message holds no number from 0 under '{key}'")
    return value


def _text_or_null(message: Mapping[str, object], key: str) -> str | None:
    return None if key in message and message[key] is None else _take(message, key, str)


def _moment(message: Mapping[str, object], key: str) -> str:
    text = _take(message, key, str)
    try:
        if _MOMENT.fullmatch(text) and from_iso(text):
            return text
    except ValueError:
        pass
    raise Malformed(f"a message holds no time under '{key}'")


def _moment_or_null(message: Mapping[str, object], key: str) -> str | None:
    return None if key in message and message[key] is None else _moment(message, key)


def _seconds(message: Mapping[str, object], key: str) -> float:
    seconds = _take(message, key, float)
    if not 0 <= seconds <= LONGEST:
        raise Malformed(f"a message holds no number of seconds under '{key}'")
    return seconds


def _texts(message: Mapping[str, object], key: str) -> tuple[str, ...]:
    values = _take(message, key, list)
    if not all(isinstance(value, str) for value in values):
        raise Malformed(f"a message holds no list of texts under '{key}'")
    return tuple(values)


def _text_map(message: Mapping[str, object], key: str) -> dict[str, str]:
    values = _take(message, key, dict)
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in values.items()):
        raise Malformed(f"a message holds no map of texts under '{key}'")
    return values


def _map(data: bytes) -> dict[str, object]:
    message = unpack(data)
    if not isinstance(message, dict):
        raise Malformed("a message is no map")
    return message


# ---------------------------------------------------------------------- up: worker → orchestrator


@dataclass(frozen=True, slots=True)
class Started:
    """The step's child process starts now. Comes with the removal of the claim, in one step of the server."""

    dispatch: str
    at: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """The claim was gone (taken back) when the step should have begun. Nothing was started.

    It is sealed when that is known, never beforehand: whoever listens in on the server must not come by one that
    might still become untrue.
    """

    dispatch: str


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Wants:
    """The machine has claimed a dispatch that needs a grant, and would begin it."""

    dispatch: str


@dataclass(frozen=True, slots=True)
class OutputLines:
    dispatch: str
    stream: str  #: `stdout` or `stderr`
    text: str  #: whole lines, without the last newline


@dataclass(frozen=True, slots=True)
class Finished:
    """The result lies in the results hash."""

    dispatch: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the machine has, said after every join and before it leaves; what it does not name it does not have."""

    draining: bool  #: it takes no more: its claims can go to others
    running: tuple[str, ...]
    outbox: tuple[str, ...]  #: results sent and not acknowledged
    dropped: tuple[str, ...]  #: claims of which it cannot know whether they were begun; it started none of them


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Has numbers of its own (1, 2, 3 … within the epoch): a lost one costs nothing, a repeated one proves nothing."""

    boot: str  #: the start of the orchestrator that it is meant for
    running: int
    slots: int
    holding: tuple[str, ...]  #: claims that it knows of and has not begun
    said: int  #: the number of its last message; one that is missing then was taken out of the stream


UpBody = Wants | Started | Dropped | Declined | OutputLines | Finished | Inventory | Heartbeat


@dataclass(frozen=True, slots=True)
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
    message = _map(data)
    kind = message.get("kind")
    body: UpBody
    if kind == "started":
        body = Started(_take(message, "dispatch", str), _moment(message, "at"))
    elif kind == "finished":
        body = Finished(_take(message, "dispatch", str))
    elif kind == "output":
        stream = _take(message, "stream", str)
        if stream not in ("stdout", "stderr"):
            raise Malformed(f"'{stream}' is no stream of a step")
        body = OutputLines(_take(message, "dispatch", str), stream, _take(message, "text", str))
    elif kind == "wants":
        body = Wants(_take(message, "dispatch", str))
    elif kind == "dropped":
        body = Dropped(_take(message, "dispatch", str))
    elif kind == "declined":
        body = Declined(_take(message, "dispatch", str), _take(message, "reason", str))
    elif kind == "inventory":
        body = Inventory(
            _take(message, "draining", bool),
            _texts(message, "running"),
            _texts(message, "outbox"),
            _texts(message, "dropped"),
        )
    elif kind == "heartbeat":
        body = Heartbeat(
            _take(message, "boot", str),
            _take(message, "running", int),
            _take(message, "slots", int),
            _texts(message, "holding"),
            _take(message, "said", int),
        )
    else:
        raise Malformed(f"a worker says something of kind {kind!r}")
    return Up(_take(message, "epoch", int), _take(message, "number", int), body)


# ---------------------------------------------------------------------- down: orchestrator → worker


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Everything of this epoch up to this number is on disk."""

    epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the step: TERM, and KILL after `grace` seconds."""

    dispatch: str
    reason: str
    grace: float


@dataclass(frozen=True, slots=True)
class Grant:
    """This start of this machine may begin the dispatch; nobody else may."""

    dispatch: str
    epoch: int


DownBody = Acknowledge | Cancel | Grant


@dataclass(frozen=True, slots=True)
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
    message = _map(data)
    kind = message.get("kind")
    body: DownBody
    if kind == "acknowledge":
        body = Acknowledge(_take(message, "epoch", int), _take(message, "upTo", int))
    elif kind == "grant":
        body = Grant(_take(message, "dispatch", str), _take(message, "epoch", int))
    elif kind == "cancel":
        body = Cancel(_take(message, "dispatch", str), _take(message, "reason", str), _take(message, "grace", float))
    else:
        raise Malformed(f"the orchestrator says something of kind {kind!r}")
    return Down(_take(message, "boot", str), _take(message, "number", int), body)


# ---------------------------------------------------------------------- a dispatch, and its result


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One attempt to execute one step, as the worker opens it."""

    id: str
    target: str
    attempt: int
    incarnation: int
    expires_at: str  #: by the orchestrator's clock; not begun any more from this moment on
    run_id: str
    workflow: str
    job: str
    step: str
    grant: bool  #: it may begin only with the orchestrator's grant, because several machines serve the target
    invocation: Invocation


def pack_dispatch(dispatch: Dispatch) -> bytes:
    call = dispatch.invocation
    return pack(
        {
            "dispatch": dispatch.id,
            "target": dispatch.target,
            "attempt": dispatch.attempt,
            "incarnation": dispatch.incarnation,
            "expiresAt": dispatch.expires_at,
            "run": dispatch.run_id,
            "workflow": dispatch.workflow,
            "job": dispatch.job,
            "step": dispatch.step,
            "grant": dispatch.grant,
            "modelId": call.model_id,
            "model": call.model_name,
            "modelType": call.model_type,
            "method": call.method,
            "arguments": dict(call.arguments),
            "secrets": call.secrets,
            "tags": dict(call.tags),
        }
    )


def unpack_dispatch(data: bytes) -> Dispatch:
    """Raises `Malformed`."""
    message = _map(data)
    return Dispatch(
        id=_take(message, "dispatch", str),
        target=_take(message, "target", str),
        attempt=_take(message, "attempt", int),
        incarnation=_take(message, "incarnation", int),
        expires_at=_moment(message, "expiresAt"),
        run_id=_take(message, "run", str),
        workflow=_take(message, "workflow", str),
        job=_take(message, "job", str),
        step=_take(message, "step", str),
        grant=_take(message, "grant", bool),
        invocation=Invocation(
            model_id=_take(message, "modelId", str),
            model_name=_take(message, "model", str),
            model_type=_take(message, "modelType", str),
            method=_take(message, "method", str),
            arguments=_take(message, "arguments", dict),
            tags=_text_map(message, "tags"),
            secrets=_texts(message, "secrets"),
        ),
    )


def pack_result(outcome: Outcome) -> bytes:
    outputs = []
    for output in outcome.outputs:
        content: object = output.content
        if isinstance(content, Blob):
            content = {"checksum": content.checksum, "size": content.size}
        outputs.append(
            {
                "spec": output.spec_name,
                "name": output.name,
                "type": output.data_type,
                "contentType": output.content_type,
                "content": content,
                "tags": dict(output.tags),
            }
        )
    return pack(
        {
            "status": outcome.status,
            "error": outcome.error,
            "startedAt": outcome.started_at,
            "endedAt": outcome.ended_at,
            "durationMs": outcome.duration_ms,
            "outputs": outputs,
        }
    )


def unpack_result(data: bytes) -> Outcome:
    """Raises `Malformed`."""
    message = _map(data)
    status = _take(message, "status", str)
    if status not in ("succeeded", "failed", "canceled"):
        raise Malformed(f"'{status}' is no way for a step to end")
    outputs = []
    for item in _take(message, "outputs", list):
        if not isinstance(item, dict):
            raise Malformed("an output of a result is no map")
        data_type = _take(item, "type", str)
        if data_type not in ("resource", "file"):
            raise Malformed(f"'{data_type}' is no type of data")
        content = item.get("content")
        if isinstance(content, dict):
            content = Blob(_checksum(content), _take(content, "size", int))
        elif not isinstance(content, bytes):
            raise Malformed("an output of a result has no content")
        outputs.append(
            Output(
                spec_name=_take(item, "spec", str),
                name=_take(item, "name", str),
                data_type=data_type,
                content_type=_take(item, "contentType", str),
                content=content,
                tags=_text_map(item, "tags"),
            )
        )
    return Outcome(
        status=status,
        error=_text_or_null(message, "error"),
        outputs=tuple(outputs),
        started_at=_moment(message, "startedAt"),
        ended_at=_moment(message, "endedAt"),
        duration_ms=_take(message, "durationMs", int),
    )


def _checksum(message: Mapping[str, object]) -> str:
    checksum = _take(message, "checksum", str)
    # It becomes the name of a file.
    if len(checksum) != 64 or any(digit not in "0123456789abcdef" for digit in checksum):
        raise Malformed("a checksum is 64 hex digits")
    return checksum


# ---------------------------------------------------------------------- the session: joining, and big content


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker says of itself inside the handshake's last message."""

    protocol: int
    version: str
    epoch: int
    acknowledged: int  #: of this epoch's messages, those up to this number are forgotten
    platform: str  #: e.g. `linux/x86_64`
    slots: int
    clock: str  #: its time, ISO 8601
    host: str  #: the machine's own name
    pid: int
    python: str  #: its version
    grace: float  #: seconds that it wants to deliver what it started when its token's time is over


@dataclass(frozen=True, slots=True)
class Welcome:
    """The orchestrator's answer to a machine that may work."""

    worker: str
    target: str
    boot: str
    clock: str  #: the orchestrator's time; what expires does so by it
    incarnation: int
    applied: int  #: of this epoch's messages, those up to this number are on disk
    said: int  #: number of the last message down before this; what is not greater is a repetition
    redis_url: str | None  #: None: Redis can be reached through a tunnel only
    redis_user: str
    redis_password: str
    signing_key: bytes  #: Ed25519; what it did not sign is not begun
    target_keys: Mapping[int, bytes]  #: by generation; the greatest is the one in use
    heartbeat_seconds: float
    drained: bool = False  #: take no new steps
    tunnel: str | None = None  #: the ticket for connections to Redis through the orchestrator's port
    delivers_until: str | None = None  #: the token's time is over; until then it may deliver what it started


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What a joined worker says in place of `Hello`, to reach Redis through one more WebSocket."""

    ticket: str  #: as its welcome said under `tunnel`


@dataclass(frozen=True, slots=True)
class Opened:
    """There is a connection to Redis at the tunnel's other end."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The orchestrator's answer to a machine that may not, or may not any more.

    `code`: `unknown_token`, `revoked`, `expired`, `superseded`, `already_bound`, `protocol` end the worker;
    `try_later` does not.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Rejoin:
    """The orchestrator misses something: join again, which sends everything that was not acknowledged."""


@dataclass(frozen=True, slots=True)
class Farewell:
    """The worker stops. It has said everything: what it began and did not end has no result."""


@dataclass(frozen=True, slots=True)
class BlobPart:
    """A piece of big content on its way up, in order; the last one makes it whole."""

    checksum: str
    data: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class BlobStored:
    """The content with this checksum is on disk, or (`error`) could not be put there."""

    checksum: str
    error: str | None


SessionMessage = Hello | Welcome | Tunnel | Opened | Refusal | Rejoin | Farewell | BlobPart | BlobStored


def pack_session(message: SessionMessage) -> bytes:
    match message:
        case Hello():
            return pack(
                {
                    "kind": "hello",
                    "protocol": message.protocol,
                    "version": message.version,
                    "epoch": message.epoch,
                    "acknowledged": message.acknowledged,
                    "platform": message.platform,
                    "slots": message.slots,
                    "clock": message.clock,
                    "host": message.host,
                    "pid": message.pid,
                    "python": message.python,
                    "grace": message.grace,
                }
            )
        case Welcome():
            return pack(
                {
                    "kind": "welcome",
                    "worker": message.worker,
                    "target": message.target,
                    "boot": message.boot,
                    "clock": message.clock,
                    "incarnation": message.incarnation,
                    "applied": message.applied,
                    "said": message.said,
                    "redisUrl": message.redis_url,
                    "redisUser": message.redis_user,
                    "redisPassword": message.redis_password,
                    "signingKey": message.signing_key,
                    "targetKeys": {str(generation): key for generation, key in message.target_keys.items()},
                    "heartbeatSeconds": message.heartbeat_seconds,
                    "drained": message.drained,
                    "tunnel": message.tunnel,
                    "deliversUntil": message.delivers_until,
                }
            )
        case Tunnel():
            return pack({"kind": "tunnel", "ticket": message.ticket})
        case Opened():
            return pack({"kind": "opened"})
        case Refusal():
            return pack({"kind": "refusal", "code": message.code, "message": message.message})
        case Rejoin():
            return pack({"kind": "rejoin"})
        case Farewell():
            return pack({"kind": "farewell"})
        case BlobPart():
            return pack({"kind": "blob", "checksum": message.checksum, "data": message.data, "last": message.last})
        case BlobStored():
            return pack({"kind": "stored", "checksum": message.checksum, "error": message.error})


def unpack_session(data: bytes) -> SessionMessage:
    """Raises `Malformed`."""
    message = _map(data)
    kind = message.get("kind")
    if kind == "hello":
        return Hello(
            protocol=_take(message, "protocol", int),
            version=_take(message, "version", str),
            epoch=_take(message, "epoch", int),
            acknowledged=_take(message, "acknowledged", int),
            platform=_take(message, "platform", str),
            slots=_take(message, "slots", int),
            clock=_moment(message, "clock"),
            host=_take(message, "host", str),
            pid=_take(message, "pid", int),
            python=_take(message, "python", str),
            grace=_seconds(message, "grace"),
        )
    if kind == "welcome":
        return Welcome(
            worker=_take(message, "worker", str),
            target=_take(message, "target", str),
            boot=_take(message, "boot", str),
            clock=_moment(message, "clock"),
            incarnation=_take(message, "incarnation", int),
            applied=_take(message, "applied", int),
            said=_take(message, "said", int),
            redis_url=_text_or_null(message, "redisUrl"),
            redis_user=_take(message, "redisUser", str),
            redis_password=_take(message, "redisPassword", str),
            signing_key=_key(message, "signingKey"),
            target_keys=_target_keys(message),
            heartbeat_seconds=_take(message, "heartbeatSeconds", float),
            drained=_take(message, "drained", bool),
            tunnel=_text_or_null(message, "tunnel"),
            delivers_until=_moment_or_null(message, "deliversUntil"),
        )
    if kind == "tunnel":
        return Tunnel(_take(message, "ticket", str))
    if kind == "opened":
        return Opened()
    if kind == "refusal":
        return Refusal(_take(message, "code", str), _take(message, "message", str))
    if kind == "rejoin":
        return Rejoin()
    if kind == "farewell":
        return Farewell()
    if kind == "blob":
        return BlobPart(_checksum(message), _take(message, "data", bytes), _take(message, "last", bool))
    if kind == "stored":
        return BlobStored(_checksum(message), _text_or_null(message, "error"))
    raise Malformed(f"a session message of kind {kind!r}")


def _key(message: Mapping[str, object], name: str) -> bytes:
    key = _take(message, name, bytes)
    if len(key) != KEY_SIZE:
        raise Malformed(f"a message holds no key under '{name}'")
    return key


def _target_keys(message: Mapping[str, object]) -> dict[int, bytes]:
    keys = _take(message, "targetKeys", dict)
    generations = [name for name in keys if re.fullmatch(r"[1-9][0-9]{0,9}", name, re.ASCII)]
    if not keys or len(generations) != len(keys):
        raise Malformed("a welcome holds no keys of its target")
    return {int(generation): _key(keys, generation) for generation in generations}


# ---------------------------------------------------------------------- the frames before the handshake is done


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
    return Opening(_take(message, "protocol", int), _take(message, "token", str), _take(message, "noise", bytes))


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
        return _take(message, "noise", bytes)
    return Refusal(_take(message, "code", str), _take(message, "message", str))


#: Where the worker's WebSocket goes on the orchestrator's port.
SESSION_PATH = "/worker"


def prologue(token_name: str) -> bytes:
    """What both sides must agree on before the first handshake message."""
    return b"swamp1 " + token_name.encode()
