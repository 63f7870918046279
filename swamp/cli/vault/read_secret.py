"""`swamp vault read-secret`: print a secret."""

from __future__ import annotations

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.vaults.catalog import open_vault


@click.command("read-secret", epilog=examples("swamp vault read-secret sandbox-vault api-key"))
@click.argument("vault")
@click.argument("key")
@swamp_options
def command(ctx: Context, vault: str, key: str) -> None:
    """Print the secret under KEY in VAULT. In a pipe, nothing is added to it, not even a newline."""
    opened = open_vault(ctx.repo, vault)
    value = opened.get(key)
    if ctx.json:
        ctx.document({"vaultName": opened.name, "secretKey": key, "vaultType": opened.type, "value": value})
    elif ctx.stdout_is_terminal:
        ctx.out(value)
    else:
        ctx.out_bytes(value.encode())
