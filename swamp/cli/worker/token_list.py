"""`swamp worker token list`: which tokens there are, and which machines joined with them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.clock import iso
from swamp.data.store import Store
from swamp.repo import Repo
from swamp.tokens import store as tokens
from swamp.tokens.token import Machine, RefusedJoin, Token, deliver_until, delivers, document, state


@click.command("list", epilog=examples("swamp worker token list", "swamp worker token list --json"))
@swamp_options
def command(ctx: Context) -> None:
    """List the enrollment tokens: unused, bound, expired or revoked."""
    found = _tokens(ctx.repo)
    now = ctx.now()
    if ctx.json:
        ctx.document([document(token, machines, now, refused) for token, machines, refused in found])
    elif found:
        ctx.table(
            ("NAME", "STATE", "EXPIRES", "BOUND MACHINE"),
            [
                (
                    token.name,
                    state(token, bound=bool(machines), now=now),
                    iso(token.expires_at),
                    _bound(token, machines),
                )
                for token, machines, _ in found
            ],
        )
        for token, machines, refused in found:
            for machine in machines:
                if delivers(token, machine, now):
                    until = iso(deliver_until(token, machine))
                    ctx.say(f"Expired: {machine.worker} may deliver what it started until {until}")
            for attempt in refused:
                ctx.say(
                    f"Refused: machine {attempt.machine} with token {token.name} ({attempt.code},"
                    f" {attempt.times} times, last at {iso(attempt.at)} from {attempt.address or 'nowhere'})"
                )
    else:
        ctx.say("No enrollment tokens. Mint one with: swamp worker token create <name> --duration 1h")


def _tokens(repo: Repo) -> list[tuple[Token, list[Machine], list[RefusedJoin]]]:
    if not repo.database.exists():
        return []
    with closing(Store.open(repo.database, repo.blobs, create=False)) as store, store.read() as tx:
        return [
            (token, tokens.bindings(tx, token.name), tokens.refused_joins(tx, token.name))
            for token in tokens.tokens(tx)
        ]


def _bound(token: Token, machines: Sequence[Machine]) -> str:
    """The machine of a token for one; of a fleet how many of how many (`--json` names them)."""
    if token.max_enrollments != 1:
        here = sum(machine.revoked_at is None for machine in machines)
        return f"{here}/{token.max_enrollments or 'unlimited'}"
    return machines[0].id if machines else "-"
