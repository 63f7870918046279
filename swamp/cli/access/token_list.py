"""`swamp access token list`: which client tokens there are."""

from __future__ import annotations

from contextlib import closing

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.clock import iso
from swamp.data.store import Store
from swamp.repo import Repo
from swamp.tokens import access


@click.command("list", epilog=examples("swamp access token list", "swamp access token list --json"))
@swamp_options
def command(ctx: Context) -> None:
    """List the client tokens: valid, expired or revoked."""
    found = _tokens(ctx.repo)
    now = ctx.now()
    if ctx.json:
        ctx.document([access.document(token, now) for token in found])
    elif found:
        ctx.table(
            ("NAME", "STATE", "EXPIRES"),
            [(token.name, access.state(token, now), iso(token.expires_at)) for token in found],
        )
    else:
        ctx.say("No client tokens. Mint one with: swamp access token create <name> --duration 30d")


def _tokens(repo: Repo) -> list[access.AccessToken]:
    if not repo.database.exists():
        return []
    with closing(Store.open(repo.database, repo.blobs, create=False)) as store, store.read() as tx:
        return access.tokens(tx)
