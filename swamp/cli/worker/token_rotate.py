"""`swamp worker token rotate`: a new secret for a target, whose machines stay."""

from __future__ import annotations

import secrets as random
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import click

from swamp.cli.context import Context, examples, swamp_options, typed
from swamp.cli.worker.token_create import keep_in_file, tell, tell_orchestrator, text_of, told_as_json
from swamp.clock import iso, parse_duration
from swamp.data.store import Store
from swamp.tokens import secrets
from swamp.tokens import store as tokens
from swamp.tokens.token import SECRET_BYTES, Token, document, is_live, mint, unknown
from swamp.vaults.catalog import open_vault


@click.command(
    "rotate",
    epilog=examples(
        "swamp worker token rotate build-node",
        "swamp worker token rotate build-node --duration 30d --output-file /run/swamp/build-node.token",
        "swamp worker token rotate fleet --if-expires-within 30d --output-file /run/swamp/fleet.token",
    ),
)
@click.argument("name")
@click.option(
    "--duration",
    metavar="TIME",
    help="How long its machines may work from now on (default: as long as it was made for).",
)
@click.option(
    "--if-expires-within",
    metavar="TIME",
    help="Do nothing while the token has more time left than that.",
)
@click.option(
    "--output-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the token into FILE (0600) instead of showing it.",
)
@swamp_options
def command(
    ctx: Context, name: str, duration: str | None, if_expires_within: str | None, output_file: Path | None
) -> None:
    """Give the token NAME a new secret and more time. The machines that joined with it stay.

    The old secret lets nobody in any more. Workers that are connected go on; when they connect anew they need the new
    one, so replace what their --token-file holds: they read it again each time.

    With --if-expires-within it may be called as often as one likes, for example by
    cron, to keep the token of a fleet alive.
    """
    lifetime = None if duration is None else typed(parse_duration, duration, "--duration")
    within = None if if_expires_within is None else typed(parse_duration, if_expires_within, "--if-expires-within")
    now = ctx.now()
    if not ctx.repo.database.exists():
        raise unknown(name, [])
    with closing(Store.open(ctx.repo.database, ctx.repo.blobs, create=False)) as store, store.write() as tx:
        old = tokens.get(tx, name)
        if within is not None and is_live(old, now) and old.expires_at - now > within:
            _left(ctx, tx, old, output_file, now)
            return
        before = text_of(ctx, old)
        since = old.rotated_at or old.created_at
        token = tokens.rotate(tx, name, now + (lifetime or old.expires_at - since), now)
        machines, refused = tokens.bindings(tx, name), tokens.refused_joins(tx, name)
        _, text = mint(name, token.vault, token.expires_at - now, now, random.token_bytes(SECRET_BYTES))
        secrets.keep(open_vault(ctx.repo, token.vault), token, text, before=before)
        if output_file is not None:
            secrets.write_file(output_file, text)

    if ctx.json:
        ctx.document({**document(token, machines, now, refused), **told_as_json(text, output_file)})
    else:
        ctx.out(f"✓ Token {name} rotated.")
        ctx.out(f"Expires: {iso(token.expires_at)}")
        ctx.out(f"Machines that stay: {len(machines)}")
        ctx.out(f"Vault: {token.vault} (key {token.vault_key})")
        tell(ctx, text, output_file)
    tell_orchestrator(ctx, name, "rotated")


def _left(ctx: Context, tx: sqlite3.Connection, token: Token, output_file: Path | None, now: datetime) -> None:
    """The token has time enough. Its file, which may have been lost, is made to hold it all the same."""
    if output_file is not None:
        keep_in_file(ctx, token, output_file)
    if ctx.json:
        told = {} if output_file is None else {"tokenFile": str(output_file)}
        machines, refused = tokens.bindings(tx, token.name), tokens.refused_joins(tx, token.name)
        ctx.document({**document(token, machines, now, refused), **told})
    else:
        ctx.out(f"Token {token.name} is left as it is.")
        ctx.out(f"Expires: {iso(token.expires_at)}")
