"""`swamp vault list-keys`: which secrets a vault has."""

from __future__ import annotations

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.vaults.catalog import open_vault


@click.command("list-keys", epilog=examples("swamp vault list-keys sandbox-vault"))
@click.argument("vault")
@swamp_options
def command(ctx: Context, vault: str) -> None:
    """List the keys of VAULT. Values are not shown."""
    opened = open_vault(ctx.repo, vault)
    keys = opened.keys()
    if ctx.json:
        ctx.document(
            {"vaultName": opened.name, "vaultType": opened.type, "secretKeys": keys, "count": len(keys)},
        )
        return
    ctx.out(f"Vault {opened.name} ({opened.type}): {len(keys)} {'key' if len(keys) == 1 else 'keys'}")
    for key in keys:
        ctx.out(f"  - {key}")
