"""What an enrollment token is: its text, its name, and what is true of it at a given moment. Pure.

A token's text is `<name>.<64 hex>`. The part after the dot is the secret (32 bytes). The text is kept in a vault and
nowhere else; everything here and in the database is about the token, never the secret itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from swamp.clock import iso
from swamp.errors import Invalid, NotFound
from swamp.names import TARGET_LENGTH, check_target, did_you_mean
from swamp.vaults.vault import TOKENS

SECRET_BYTES = 32

UNUSED = "unused"  #: valid, and no machine has joined with it
BOUND = "bound"  #: valid, and at least one machine has joined with it
EXPIRED = "expired"  #: its time is over
REVOKED = "revoked"  #: ended by a person; stays so after its time is over

MOST_GRACE = 3600.0  #: seconds; a machine may ask for so much to deliver what it started, and no more

_TEXT = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)\.([0-9a-f]{64})")


@dataclass(frozen=True)
class Token:
    """A token as the database knows it: everything but the secret."""

    name: str  #: also the target that its machines serve, and the name of their queue
    vault: str
    vault_key: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    max_enrollments: int | None = 1  #: how many machines may join; None: any number
    rotated_at: datetime | None = None  #: when it last got a new secret
    key_generation: int = 1  #: which key of its target is in use; a new one when a machine was put out


@dataclass(frozen=True)
class Machine:
    """A machine that joined with a token."""

    id: str
    public_key: bytes
    token: str
    worker: str  #: the name people see
    bound_at: datetime
    epoch: int = 0  #: boot epoch of the last message applied
    sequence: int = 0  #: sequence number of the last message applied, within the epoch
    redis_password_hash: str | None = None  #: SHA-256, hex
    platform: str = ""  #: for example linux/x86_64
    slots: int = 0
    last_seen_at: datetime | None = None
    revoked_at: datetime | None = None  #: put out alone, while its token goes on
    grace: float = 0.0  #: seconds that it asked for to deliver what it started when its time is over


@dataclass(frozen=True)
class RefusedJoin:
    """A machine that knew the token's secret and was refused all the same: perhaps somebody else's."""

    machine: str
    code: str
    at: datetime  #: the last time
    times: int
    host: str  #: as the machine says
    address: str


def mint(
    name: str, vault: str, duration: timedelta, now: datetime, secret: bytes, max_enrollments: int | None = 1
) -> tuple[Token, str]:
    """A new token and its text. `secret` is 32 bytes of fresh randomness.

    Raises `Invalid` for a name that a token cannot have.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError("a token's secret is 32 bytes")
    token = Token(
        name=check_target(name),
        vault=vault,
        vault_key=vault_key(name),
        created_at=now,
        expires_at=now + duration,
        max_enrollments=max_enrollments,
    )
    return token, f"{name}.{secret.hex()}"


def vault_key(name: str) -> str:
    """The key under which a vault keeps the token's text."""
    return f"{TOKENS}{name}"


def superseded_key(name: str) -> str:
    """The key under which a vault keeps the texts that the token had before, newest first, one a line. (No token's name
    holds a dot.)"""
    return f"{vault_key(name)}.superseded"


def parse(text: str) -> tuple[str, bytes]:
    """Name and secret of a token's text. Raises `Invalid`, which does not repeat the text, for anything else."""
    match = _TEXT.fullmatch(text.strip())
    if match is None or len(match[1]) > TARGET_LENGTH:
        raise Invalid(
            "this is not an enrollment token",
            hint="a token is <name>.<64 hex digits>, as printed by: swamp worker token create <name> --duration 1h",
            code="bad_token",
        )
    return match[1], bytes.fromhex(match[2])


def is_live(token: Token, now: datetime) -> bool:
    """Whether machines may use the token at `now`. At the very moment of expiry it is over."""
    return token.revoked_at is None and now < token.expires_at


def delivers(token: Token, machine: Machine, now: datetime) -> bool:
    """Whether the token's time is over, and the machine may still deliver what it started."""
    ended = token.revoked_at is not None or machine.revoked_at is not None
    return not ended and token.expires_at <= now < deliver_until(token, machine)


def deliver_until(token: Token, machine: Machine) -> datetime:
    """When the machine may not even deliver any more what it started while the token was live."""
    return token.expires_at + timedelta(seconds=min(machine.grace, MOST_GRACE))


def state(token: Token, *, bound: bool, now: datetime) -> str:
    """`unused`, `bound`, `expired` or `revoked`; `bound` says whether any machine has joined with it."""
    if token.revoked_at is not None:
        return REVOKED
    if now >= token.expires_at:
        return EXPIRED
    return BOUND if bound else UNUSED


def document(
    token: Token, machines: Sequence[Machine], now: datetime, refused: Sequence[RefusedJoin] = ()
) -> dict[str, object]:
    """The token as `--json` shows it: everything that is known, never the secret."""
    return {
        "name": token.name,
        "state": state(token, bound=bool(machines), now=now),
        "createdAt": iso(token.created_at),
        "expiresAt": iso(token.expires_at),
        "revokedAt": iso(token.revoked_at) if token.revoked_at else None,
        "rotatedAt": iso(token.rotated_at) if token.rotated_at else None,
        "maxEnrollments": token.max_enrollments,
        "bindings": [
            {
                "machine": machine.id,
                "worker": machine.worker,
                "boundAt": iso(machine.bound_at),
                "revokedAt": iso(machine.revoked_at) if machine.revoked_at else None,
                "deliversUntil": iso(deliver_until(token, machine)) if delivers(token, machine, now) else None,
            }
            for machine in machines
        ],
        "refused": [
            {
                "machine": attempt.machine,
                "code": attempt.code,
                "lastAt": iso(attempt.at),
                "times": attempt.times,
                "host": attempt.host,
                "address": attempt.address,
            }
            for attempt in refused
        ],
        "vault": token.vault,
        "vaultKey": token.vault_key,
    }


def unknown(name: str, known: Sequence[str]) -> NotFound:
    """The error for a token that does not exist among those that do."""
    return NotFound(
        f"there is no token '{name}'{did_you_mean(name, known)}",
        hint="see which there are with: swamp worker token list",
        code="unknown_token",
    )


def parse_max_enrollments(text: str) -> int | None:
    """How many machines may join: a whole number from 1 on, or `unlimited` (None). Raises `Invalid`."""
    if text == "unlimited":
        return None
    if re.fullmatch(r"[1-9][0-9]{0,5}", text) is None:
        raise Invalid(
            f"'{text}' is not a number of machines",
            hint="write a whole number from 1 to 999999, or: unlimited",
        )
    return int(text)
