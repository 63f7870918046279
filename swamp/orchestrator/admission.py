"""Who may join: the decision on a machine that has proved that it knows a token's secret and owns its key. Pure.

The caller asks and binds in one write transaction, or two machines could share a token meant for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from swamp.clock import iso
from swamp.tokens.token import Machine, Token, is_live


@dataclass(frozen=True)
class Admit:
    """The machine may work for the token's target."""

    worker_name: str
    new_binding: bool  #: it must be bound to the token first


@dataclass(frozen=True)
class Refuse:
    """The machine may not join."""

    code: str  #: `unknown_token`, `revoked`, `expired`, `superseded` or `already_bound`
    message: str


def decide(
    token: Token | None,
    bindings: Sequence[Machine],
    machine_id: str,
    public_key: bytes,
    now: datetime,
    *,
    elsewhere: Token | None = None,
    superseded: bool = False,
) -> Admit | Refuse:
    """Whether the machine may join with `token`, whose machines so far are `bindings`.

    `superseded`: the secret that it knows is one that the token had before.
    A machine that is bound to the token already always may, while the token is live. `elsewhere` is another token
    that the machine is bound to: while that one is live the machine cannot move, because leaving would make room on
    it for whoever else holds a copy.
    """
    if token is None:
        return Refuse("unknown_token", "there is no such token; ask for one made with: swamp worker token create")
    if token.revoked_at is not None:
        return Refuse("revoked", f"token '{token.name}' was revoked at {iso(token.revoked_at)}")
    if not is_live(token, now):
        return Refuse("expired", f"token '{token.name}' expired at {iso(token.expires_at)}")
    if superseded:
        since = iso(token.rotated_at or token.created_at)
        return Refuse("superseded", f"token '{token.name}' has had another secret since {since}")

    for bound in bindings:
        if bound.id == machine_id:
            if bound.public_key != public_key:
                return Refuse("already_bound", f"machine {machine_id} is known with another key")
            return Admit(bound.worker, new_binding=False)

    if token.max_enrollments is not None and len(bindings) >= token.max_enrollments:
        if token.max_enrollments == 1:
            return Refuse("already_bound", f"token '{token.name}' is already bound to machine {bindings[0].id}")
        return Refuse(
            "already_bound", f"token '{token.name}' is already bound to {len(bindings)} machines, as many as it may"
        )
    if elsewhere is not None and is_live(elsewhere, now):
        return Refuse(
            "already_bound",
            f"this machine is bound to token '{elsewhere.name}'; give this worker a --cache-dir of its own",
        )
    return Admit(_worker_name(token, bindings, machine_id), new_binding=True)


def expired(memberships: Iterable[tuple[str, datetime]], now: datetime) -> set[str]:
    """The tokens among (token, moment of its expiry) whose time is over: their machines have to go."""
    return {name for name, expires_at in memberships if now >= expires_at}


def _worker_name(token: Token, bindings: Sequence[Machine], machine_id: str) -> str:
    if token.max_enrollments == 1:
        return token.name
    short = f"{token.name}-{machine_id[:8]}"
    # A key whose id begins with another machine's eight digits can be searched for; it must not hide that worker.
    return f"{token.name}-{machine_id}" if any(bound.worker == short for bound in bindings) else short
