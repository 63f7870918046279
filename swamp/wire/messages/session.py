"""The session of a worker with the orchestrator: joining, what ends it, big content, the tunnel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from swamp.wire.codec import Malformed, pack
from swamp.wire.messages.fields import as_map, checksum, key, moment, moment_or_null, seconds, take, text_or_null

LARGEST_CONTENT = 1 << 30  #: bytes of one content that the orchestrator takes


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
    message = as_map(data)
    kind = message.get("kind")
    if kind == "hello":
        return Hello(
            protocol=take(message, "protocol", int),
            version=take(message, "version", str),
            epoch=take(message, "epoch", int),
            acknowledged=take(message, "acknowledged", int),
            platform=take(message, "platform", str),
            slots=take(message, "slots", int),
            clock=moment(message, "clock"),
            host=take(message, "host", str),
            pid=take(message, "pid", int),
            python=take(message, "python", str),
            grace=seconds(message, "grace"),
        )
    if kind == "welcome":
        return Welcome(
            worker=take(message, "worker", str),
            target=take(message, "target", str),
            boot=take(message, "boot", str),
            clock=moment(message, "clock"),
            incarnation=take(message, "incarnation", int),
            applied=take(message, "applied", int),
            said=take(message, "said", int),
            redis_url=text_or_null(message, "redisUrl"),
            redis_user=take(message, "redisUser", str),
            redis_password=take(message, "redisPassword", str),
            signing_key=key(message, "signingKey"),
            target_keys=_target_keys(message),
            heartbeat_seconds=take(message, "heartbeatSeconds", float),
            drained=take(message, "drained", bool),
            tunnel=text_or_null(message, "tunnel"),
            delivers_until=moment_or_null(message, "deliversUntil"),
        )
    if kind == "tunnel":
        return Tunnel(take(message, "ticket", str))
    if kind == "opened":
        return Opened()
    if kind == "refusal":
        return Refusal(take(message, "code", str), take(message, "message", str))
    if kind == "rejoin":
        return Rejoin()
    if kind == "farewell":
        return Farewell()
    if kind == "blob":
        return BlobPart(checksum(message), take(message, "data", bytes), take(message, "last", bool))
    if kind == "stored":
        return BlobStored(checksum(message), text_or_null(message, "error"))
    raise Malformed(f"a session message of kind {kind!r}")


def _target_keys(message: Mapping[str, object]) -> dict[int, bytes]:
    keys = take(message, "targetKeys", dict)
    generations = [name for name in keys if re.fullmatch(r"[1-9][0-9]{0,9}", name, re.ASCII)]
    if not keys or len(generations) != len(keys):
        raise Malformed("a welcome holds no keys of its target")
    return {int(generation): key(keys, generation) for generation in generations}
