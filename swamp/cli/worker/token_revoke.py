"""`swamp worker token revoke`: end a token, and the sessions of the machines that joined with it."""

from __future__ import annotations

from contextlib import closing

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.clock import iso
from swamp.data.store import Store
from swamp.errors import SwampError, Unreachable
from swamp.orchestrator import client
from swamp.tokens import store as tokens
from swamp.tokens.token import document, unknown


@click.command(
    "revoke",
    epilog=examples(
        "swamp worker token revoke build-node", "swamp worker token revoke fleet --machine 5c40e1f2a90b7d3c86e4"
    ),
)
@click.argument("name")
@click.option("--machine", metavar="ID", help="Put out this machine of the token alone; the others stay.")
@swamp_options
def command(ctx: Context, name: str, machine: str | None) -> None:
    """End the token NAME: no machine joins with it any more, and its connected workers are cut off.

    With --machine the token goes on, and one machine of it is cut off for good; `swamp worker token list --json` names
    them. Whoever has that machine has a copy of the token, which opens a place for another key when there is a free
    one: give the token a new secret with `swamp worker token rotate`, which also frees the place.

    Revoking twice does no harm, and tells a running orchestrator again.
    """
    now = ctx.now()
    if not ctx.repo.database.exists():
        raise unknown(name, [])
    with closing(Store.open(ctx.repo.database, ctx.repo.blobs, create=False)) as store:
        with store.write() as tx:
            newly = tokens.revoke(tx, name, now) if machine is None else tokens.revoke_machine(tx, name, machine, now)
        with store.read() as tx:
            token = tokens.get(tx, name)
            machines = tokens.bindings(tx, name)
    _cut_off(ctx, name)

    if ctx.json:
        ctx.document({**document(token, machines, now), "alreadyRevoked": not newly})
    elif machine is not None:
        ctx.out(f"✓ Machine {machine} of token {name} revoked." if newly else f"Machine {machine} was already revoked.")
        ctx.say(f"It knows the token's secret. To replace that: swamp worker token rotate {name}")
    elif newly:
        ctx.out(f"✓ Token {name} revoked.")
        ctx.out(f"Revoked at: {iso(token.revoked_at or now)}")
    else:
        ctx.out(f"Token {name} was already revoked.")


def _cut_off(ctx: Context, name: str) -> None:
    try:
        orchestrator = client.find(ctx.repo)
        if orchestrator is not None:
            orchestrator.token_changed(name)
    except SwampError as error:
        raise Unreachable(
            f"token '{name}' is revoked, but the running orchestrator did not say that its workers are cut off:"
            f" {error.message}",
            hint=f"stop the orchestrator, or repeat: swamp worker token revoke {name}",
            code="not_cut_off",
        ) from error
