"""Who may join: the decision on a machine that has proved that it knows a token's secret and owns its key. Pure.

The caller asks and binds in one write transaction, or two machines could share a token meant for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from swamp.clock import iso
from swamp.tokens.token import Machine, Token, delivers, is_live


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
    A machine that is bound to the token already always may, while the token is live, and for its grace to deliver what
    it started. `elsewhere` is another token
    that the machine is bound to: while that one is live the machine cannot move, because leaving would make room on
    it for whoever else holds a copy.
    """
    if token is None:
        return Refuse("unknown_token", "there is no such token; ask for one made with: swamp worker token create")
    known = next((bound for bound in bindings if bound.id == machine_id), None)
    ours = known is not None and known.public_key == public_key
    if ours and known is not None and not superseded and delivers(token, known, now):
        return Admit(known.worker, new_binding=False)
    ended = why_ended(token, known if ours else None, now)
    if ended is not None:
        return ended
    if superseded:
        since = iso(token.rotated_at or token.created_at)
        return Refuse("superseded", f"token '{token.name}' has had another secret since {since}")
    if known is not None:
        if not ours:
            return Refuse("already_bound", f"machine {machine_id} is known with another key")
        return Admit(known.worker, new_binding=False)

    taken = [bound for bound in bindings if _takes_a_place(token, bound)]
    if token.max_enrollments is not None and len(taken) >= token.max_enrollments:
        if token.max_enrollments == 1:
            return Refuse("already_bound", f"token '{token.name}' is already bound to machine {taken[0].id}")
        return Refuse(
            "already_bound", f"token '{token.name}' is already bound to {len(taken)} machines, as many as it may"
        )
    if elsewhere is not None and is_live(elsewhere, now):
        return Refuse(
            "already_bound",
            f"this machine is bound to token '{elsewhere.name}'; give this worker a --cache-dir of its own",
        )
    return Admit(_worker_name(token, bindings, machine_id), new_binding=True)


def why_ended(token: Token, machine: Machine | None, now: datetime) -> Refuse | None:
    """Why the machine, or any machine, may not work with the token at `now`; None if it may."""
    if token.revoked_at is not None:
        return Refuse("revoked", f"token '{token.name}' was revoked at {iso(token.revoked_at)}")
    if machine is not None and machine.revoked_at is not None:
        return Refuse(
            "revoked", f"machine {machine.id} was put out of token '{token.name}' at {iso(machine.revoked_at)}"
        )
    if not is_live(token, now):
        return Refuse("expired", f"token '{token.name}' expired at {iso(token.expires_at)}")
    return None


def _takes_a_place(token: Token, bound: Machine) -> bool:
    """Whoever has a machine that was put out knows the secret: its place is free when that secret is no more."""
    return bound.revoked_at is None or token.rotated_at is None or token.rotated_at <= bound.revoked_at


def _worker_name(token: Token, bindings: Sequence[Machine], machine_id: str) -> str:
    if token.max_enrollments == 1:
        return token.name
    short = f"{token.name}-{machine_id[:8]}"
    # A key whose id begins with another machine's eight digits can be searched for; it must not hide that worker.
    return f"{token.name}-{machine_id}" if any(bound.worker == short for bound in bindings) else short
