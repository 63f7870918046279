"""`swamp access token revoke`: end a client token, and what listens with it."""

from __future__ import annotations

from contextlib import closing

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.clock import iso
from swamp.data.store import Store
from swamp.errors import SwampError
from swamp.orchestrator import client
from swamp.tokens import access


@click.command("revoke", epilog=examples("swamp access token revoke laptop"))
@click.argument("name")
@swamp_options
def command(ctx: Context, name: str) -> None:
    """End the client token NAME: the orchestrator takes it no more, and tells its holder nothing more.

    Runs that were started with it go on. Revoking twice does no harm.
    """
    now = ctx.now()
    if not ctx.repo.database.exists():
        raise access.unknown(name, [])
    with closing(Store.open(ctx.repo.database, ctx.repo.blobs, create=False)) as store, store.write() as tx:
        token, newly = access.revoke(tx, name, now)
    try:
        orchestrator = client.find(ctx.repo)
        if orchestrator is not None:
            orchestrator.access_changed()
    except SwampError as error:
        # The orchestrator looks at the token before it says anything, so nothing is told; only the connection stays.
        ctx.say(f"Warning: the orchestrator could not be told: {error.message}")

    if ctx.json:
        ctx.document({**access.document(token, now), "alreadyRevoked": not newly})
    elif newly:
        ctx.out(f"✓ Client token {name} revoked.")
        ctx.out(f"Revoked at: {iso(token.revoked_at or now)}")
    else:
        ctx.out(f"Client token {name} was already revoked.")
