"""Tokens and machines in the database: the only statements that touch these two tables.

Every function works on a connection lent by `Store.read()` or `Store.write()`, so that a caller can put several of
them, and the other effects of one message, into one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from swamp.clock import from_iso, iso
from swamp.errors import Invalid, NotAllowed, NotFound
from swamp.tokens.token import MOST_GRACE, Machine, RefusedJoin, Token, is_live, unknown

_COLUMNS_OF_TOKENS = (
    "name, vault, vault_key, created_at, expires_at, revoked_at, max_enrollments, rotated_at, key_generation"
)
_COLUMNS_OF_MACHINES = (
    "id, public_key, token, worker, bound_at, epoch, sequence, redis_password_hash, platform, slots, last_seen_at,"
    " revoked_at, grace"
)

#: Refused machines that are remembered of one token: who knows its secret could show any number of keys.
MOST_REFUSED = 20


@dataclass(frozen=True)
class Sighting:
    """What a machine last said of itself."""

    machine: str
    at: datetime
    platform: str
    slots: int


def add(tx: sqlite3.Connection, token: Token, now: datetime) -> bool:
    """Store a new token; True if it took the place of an expired or revoked one, whose machines are then forgotten.
    They know the key of the target, so the new one has another.

    Raises `Invalid` (code `token_exists`) if a live token has the name.
    """
    old = find(tx, token.name)
    if old is not None and is_live(old, now):
        raise Invalid(
            f"token '{token.name}' already exists and is valid until {iso(old.expires_at)}",
            hint=f"choose another name, or end it first with: swamp worker token revoke {token.name}",
            code="token_exists",
        )
    tx.execute("DELETE FROM machines WHERE token = ?", (token.name,))
    tx.execute("DELETE FROM refused_joins WHERE token = ?", (token.name,))
    tx.execute(
        f"INSERT OR REPLACE INTO tokens ({_COLUMNS_OF_TOKENS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constant
        (
            token.name,
            token.vault,
            token.vault_key,
            iso(token.created_at),
            iso(token.expires_at),
            iso(token.revoked_at) if token.revoked_at else None,
            token.max_enrollments,
            iso(token.rotated_at) if token.rotated_at else None,
            token.key_generation if old is None else old.key_generation + 1,
        ),
    )
    return old is not None


def rotate(tx: sqlite3.Connection, name: str, expires_at: datetime, now: datetime) -> Token:
    """Note that the token has a new secret and ends at `expires_at`; its machines stay. Also for one that has expired.

    Raises `NotFound`, and `Invalid` (code `revoked`) for a revoked one: that was meant to end it.
    """
    token = get(tx, name)
    if token.revoked_at is not None:
        raise Invalid(
            f"token '{name}' was revoked at {iso(token.revoked_at)}",
            hint=f"make a new one of that name, whose machines have to join anew: swamp worker token create {name}"
            " --duration 1h",
            code="revoked",
        )
    tx.execute("UPDATE tokens SET expires_at = ?, rotated_at = ? WHERE name = ?", (iso(expires_at), iso(now), name))
    return get(tx, name)


def find(tx: sqlite3.Connection, name: str) -> Token | None:
    """The token of that name, if there is one."""
    row = tx.execute(f"SELECT {_COLUMNS_OF_TOKENS} FROM tokens WHERE name = ?", (name,)).fetchone()  # noqa: S608 - constant
    return None if row is None else _token(row)


def get(tx: sqlite3.Connection, name: str) -> Token:
    """The token of that name. Raises `NotFound`, naming the nearest one."""
    token = find(tx, name)
    if token is None:
        raise unknown(name, [known.name for known in tokens(tx)])
    return token


def tokens(tx: sqlite3.Connection) -> list[Token]:
    """Every token, by name."""
    return [_token(row) for row in tx.execute(f"SELECT {_COLUMNS_OF_TOKENS} FROM tokens ORDER BY name")]  # noqa: S608 - constant


def revoke(tx: sqlite3.Connection, name: str, now: datetime) -> bool:
    """End the token; False if it was revoked before. Its machines stay on record. Raises `NotFound`."""
    done = tx.execute("UPDATE tokens SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL", (iso(now), name))
    if done.rowcount == 1:
        return True
    get(tx, name)
    return False


def revoke_machine(tx: sqlite3.Connection, name: str, machine_id: str, now: datetime) -> bool:
    """Put one machine of a token out for good; False if it was before. The others get another key of their target.

    Raises `NotFound`.
    """
    get(tx, name)
    bound = next((machine for machine in bindings(tx, name) if machine.id == machine_id), None)
    if bound is None:
        raise NotFound(
            f"no machine {machine_id} has joined with token '{name}'",
            hint="see which have with: swamp worker token list --json",
            code="unknown_machine",
        )
    if bound.revoked_at is not None:
        return False
    tx.execute("UPDATE machines SET revoked_at = ? WHERE id = ?", (iso(now), machine_id))
    tx.execute("UPDATE tokens SET key_generation = key_generation + 1 WHERE name = ?", (name,))
    return True


def machine(tx: sqlite3.Connection, machine_id: str) -> Machine | None:
    """The machine of that id, if it is on record."""
    row = tx.execute(f"SELECT {_COLUMNS_OF_MACHINES} FROM machines WHERE id = ?", (machine_id,)).fetchone()  # noqa: S608 - constant
    return None if row is None else _machine(row)


def machines(tx: sqlite3.Connection) -> list[Machine]:
    """Every machine, by the name people see."""
    rows = tx.execute(f"SELECT {_COLUMNS_OF_MACHINES} FROM machines ORDER BY worker, id")  # noqa: S608 - constant
    return [_machine(row) for row in rows]


@dataclass(frozen=True)
class Drained:
    """Why a machine takes no new steps."""

    at: datetime
    note: str


def drain(tx: sqlite3.Connection, machine_id: str, note: str, now: datetime) -> None:
    """The machine takes no new steps from now on, until `resume`; also after any restart."""
    tx.execute("INSERT OR REPLACE INTO drained (machine, at, note) VALUES (?, ?, ?)", (machine_id, iso(now), note))


def resume(tx: sqlite3.Connection, machine_id: str) -> bool:
    """The machine takes steps again; False if it did."""
    return tx.execute("DELETE FROM drained WHERE machine = ?", (machine_id,)).rowcount == 1


def drained(tx: sqlite3.Connection) -> dict[str, Drained]:
    """Every machine that takes no new steps."""
    rows = tx.execute("SELECT machine, at, note FROM drained")
    return {machine_id: Drained(from_iso(at), note) for machine_id, at, note in rows}


def bindings(tx: sqlite3.Connection, token_name: str) -> list[Machine]:
    """The machines that joined with the token, in the order in which they did."""
    rows = tx.execute(
        f"SELECT {_COLUMNS_OF_MACHINES} FROM machines WHERE token = ? ORDER BY bound_at, id",  # noqa: S608 - constant
        (token_name,),
    )
    return [_machine(row) for row in rows]


def elsewhere(tx: sqlite3.Connection, machine_id: str, token_name: str) -> Token | None:
    """The other token that the machine is bound to, if any. `admission.decide` wants to know."""
    known = machine(tx, machine_id)
    return None if known is None or known.token == token_name else find(tx, known.token)


def bind(
    tx: sqlite3.Connection, machine_id: str, public_key: bytes, token_name: str, worker: str, now: datetime
) -> None:
    """Bind the machine to the token, in the transaction in which `admission.decide` admitted it.

    A machine bound before to a token that is over moves: it keeps epoch and sequence, so that its old messages stay
    old, and loses its Redis password. Raises `NotAllowed` if the id belongs to another public key.
    """
    done = tx.execute(
        "INSERT INTO machines (id, public_key, token, worker, bound_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET token = excluded.token, worker = excluded.worker,"
        " bound_at = excluded.bound_at, redis_password_hash = NULL, revoked_at = NULL"
        " WHERE public_key = excluded.public_key",
        (machine_id, public_key, token_name, worker, iso(now)),
    )
    if done.rowcount != 1:
        raise NotAllowed(f"machine {machine_id} is known with another key", code="already_bound")


def set_redis_password(tx: sqlite3.Connection, machine_id: str, password_hash: str) -> None:
    """Remember the SHA-256 (hex) of the machine's Redis password."""
    tx.execute("UPDATE machines SET redis_password_hash = ? WHERE id = ?", (password_hash, machine_id))


def set_grace(tx: sqlite3.Connection, machine_id: str, grace: float) -> None:
    """Remember how many seconds the machine wants to deliver what it started when its token's time is over."""
    tx.execute("UPDATE machines SET grace = ? WHERE id = ?", (min(grace, MOST_GRACE), machine_id))


def note_refused(
    tx: sqlite3.Connection, token_name: str, machine_id: str, code: str, host: str, address: str, now: datetime
) -> None:
    """Remember that a machine that knew the token's secret was refused."""
    tx.execute(
        "INSERT INTO refused_joins (token, machine, code, at, times, host, address) VALUES (?, ?, ?, ?, 1, ?, ?)"
        " ON CONFLICT DO UPDATE SET at = excluded.at, times = times + 1, host = excluded.host,"
        " address = excluded.address",
        (token_name, machine_id, code, iso(now), host[:200], address),
    )
    tx.execute(
        "DELETE FROM refused_joins WHERE token = ? AND (machine, code) NOT IN"
        " (SELECT machine, code FROM refused_joins WHERE token = ? ORDER BY at DESC, machine LIMIT ?)",
        (token_name, token_name, MOST_REFUSED),
    )


def refused_joins(tx: sqlite3.Connection, token_name: str) -> list[RefusedJoin]:
    """The refused machines of a token, newest first."""
    rows = tx.execute(
        "SELECT machine, code, at, times, host, address FROM refused_joins WHERE token = ? ORDER BY at DESC, machine",
        (token_name,),
    )
    return [RefusedJoin(machine, code, from_iso(at), *rest) for machine, code, at, *rest in rows]


def advance(tx: sqlite3.Connection, machine_id: str, epoch: int, sequence: int) -> bool:
    """Note that the machine's message (epoch, sequence) is applied, in the transaction that holds its effects.

    False, and nothing noted, if that message or a later one was applied before, or the machine is not on record.
    """
    done = tx.execute(
        "UPDATE machines SET epoch = ?, sequence = ? WHERE id = ? AND (epoch, sequence) < (?, ?)",
        (epoch, sequence, machine_id, epoch, sequence),
    )
    return done.rowcount == 1


def note_sightings(tx: sqlite3.Connection, sightings: Iterable[Sighting]) -> None:
    """Note what machines said of themselves. Machines that are not on record are passed over."""
    tx.executemany(
        "UPDATE machines SET last_seen_at = ?, platform = ?, slots = ? WHERE id = ?",
        [(iso(seen.at), seen.platform, seen.slots, seen.machine) for seen in sightings],
    )


def _token(row: tuple[str, str, str, str, str, str | None, int | None, str | None, int]) -> Token:
    name, vault, vault_key, created_at, expires_at, revoked_at, max_enrollments, rotated_at, key_generation = row
    return Token(
        name=name,
        vault=vault,
        vault_key=vault_key,
        created_at=from_iso(created_at),
        expires_at=from_iso(expires_at),
        revoked_at=from_iso(revoked_at) if revoked_at else None,
        max_enrollments=max_enrollments,
        rotated_at=from_iso(rotated_at) if rotated_at else None,
        key_generation=key_generation,
    )


def _machine(
    row: tuple[str, bytes, str, str, str, int, int, str | None, str, int, str | None, str | None, float],
) -> Machine:
    (
        id_, public_key, token, worker, bound_at, epoch, sequence, password_hash, platform, slots, last_seen_at,
        revoked_at, grace,
    ) = row  # fmt: skip
    return Machine(
        id=id_,
        public_key=public_key,
        token=token,
        worker=worker,
        bound_at=from_iso(bound_at),
        epoch=epoch,
        sequence=sequence,
        redis_password_hash=password_hash,
        platform=platform,
        slots=slots,
        last_seen_at=from_iso(last_seen_at) if last_seen_at else None,
        revoked_at=from_iso(revoked_at) if revoked_at else None,
        grace=grace,
    )
