"""Client tokens: who may hand runs to the orchestrator from another machine. The database keeps a hash of each.

A token's text is `swamp-client.<name>.<64 hex>`. The first word tells it from an enrollment token, so that neither is
taken for the other; the last part is the secret (32 bytes). It is as random as a key, so one SHA-256 is hash enough.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from swamp.clock import from_iso, iso
from swamp.errors import Invalid, NotFound
from swamp.names import TARGET_LENGTH, check_name, did_you_mean
from swamp.tokens.token import EXPIRED, REVOKED, SECRET_BYTES

LIVE = "valid"

_TEXT = re.compile(r"swamp-client\.([a-z0-9][a-z0-9_-]*)\.([0-9a-f]{64})")
_COLUMNS = "name, secret_hash, created_at, expires_at, revoked_at"


@dataclass(frozen=True)
class AccessToken:
    name: str
    secret_hash: str  #: SHA-256 of the secret, hex
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None


def mint(name: str, duration: timedelta, now: datetime, secret: bytes) -> tuple[AccessToken, str]:
    """A new token and its text. `secret` is 32 bytes of fresh randomness. Raises `Invalid` for a name that is none."""
    if len(secret) != SECRET_BYTES:
        raise ValueError("a token's secret is 32 bytes")
    check_name(name, "client token")
    return AccessToken(name, _hash(secret), now, now + duration), f"swamp-client.{name}.{secret.hex()}"


def parse(text: str) -> tuple[str, bytes]:
    """Name and secret of a token's text. Raises `Invalid`, which does not repeat the text, for anything else."""
    match = _TEXT.fullmatch(text.strip())
    if match is None or len(match[1]) > TARGET_LENGTH + 1:
        raise Invalid(
            "this is not a client token",
            hint="a client token is swamp-client.<name>.<64 hex digits>, as printed on the orchestrator's machine by: "
            "swamp access token create <name> --duration 30d",
            code="bad_token",
        )
    return match[1], bytes.fromhex(match[2])


def knows(token: AccessToken, secret: bytes) -> bool:
    """Whether this is the token's secret; takes as long whatever differs."""
    return hmac.compare_digest(_hash(secret), token.secret_hash)


def state(token: AccessToken, now: datetime) -> str:
    """`valid`, `expired` or `revoked`. At the very moment of expiry it is over."""
    if token.revoked_at is not None:
        return REVOKED
    return EXPIRED if now >= token.expires_at else LIVE


def document(token: AccessToken, now: datetime) -> dict[str, object]:
    """The token as `--json` shows it, without its hash."""
    return {
        "name": token.name,
        "state": state(token, now),
        "createdAt": iso(token.created_at),
        "expiresAt": iso(token.expires_at),
        "revokedAt": iso(token.revoked_at) if token.revoked_at else None,
    }


# ---------------------------------------------------------------------- the table


def add(tx: sqlite3.Connection, token: AccessToken, now: datetime) -> None:
    """Store a new token, in place of an expired or revoked one of its name. Raises `Invalid` if a valid one has it."""
    old = find(tx, token.name)
    if old is not None and state(old, now) == LIVE:
        raise Invalid(
            f"client token '{token.name}' already exists and is valid until {iso(old.expires_at)}",
            hint=f"choose another name, or end it first with: swamp access token revoke {token.name}",
            code="token_exists",
        )
    tx.execute(
        f"INSERT OR REPLACE INTO access_tokens ({_COLUMNS}) VALUES (?, ?, ?, ?, NULL)",  # noqa: S608 - constant
        (token.name, token.secret_hash, iso(token.created_at), iso(token.expires_at)),
    )


def find(tx: sqlite3.Connection, name: str) -> AccessToken | None:
    """The token of that name, if there is one."""
    row = tx.execute(f"SELECT {_COLUMNS} FROM access_tokens WHERE name = ?", (name,)).fetchone()  # noqa: S608 - constant
    return None if row is None else _token(row)


def tokens(tx: sqlite3.Connection) -> list[AccessToken]:
    """Every token, by name."""
    return [_token(row) for row in tx.execute(f"SELECT {_COLUMNS} FROM access_tokens ORDER BY name")]  # noqa: S608 - constant


def revoke(tx: sqlite3.Connection, name: str, now: datetime) -> tuple[AccessToken, bool]:
    """End the token; False if it was revoked before. Raises `NotFound`."""
    newly = tx.execute(
        "UPDATE access_tokens SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL", (iso(now), name)
    ).rowcount
    token = find(tx, name)
    if token is None:
        raise unknown(name, [known.name for known in tokens(tx)])
    return token, newly == 1


def unknown(name: str, known: Sequence[str]) -> NotFound:
    """The error for a token that does not exist among those that do."""
    return NotFound(
        f"there is no client token '{name}'{did_you_mean(name, known)}",
        hint="see which there are with: swamp access token list",
        code="unknown_token",
    )


def _hash(secret: bytes) -> str:
    return hashlib.sha256(b"swamp client token" + secret).hexdigest()


def _token(row: tuple[str, str, str, str, str | None]) -> AccessToken:
    name, secret_hash, created_at, expires_at, revoked_at = row
    return AccessToken(
        name,
        secret_hash,
        from_iso(created_at),
        from_iso(expires_at),
        from_iso(revoked_at) if revoked_at else None,
    )
