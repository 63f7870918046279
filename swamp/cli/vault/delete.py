"""`swamp vault delete`: delete a secret."""

from __future__ import annotations

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.clock import iso
from swamp.vaults.catalog import open_vault


@click.command("delete", epilog=examples("swamp vault delete sandbox-vault api-key"))
@click.argument("vault")
@click.argument("key")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@swamp_options
def command(ctx: Context, vault: str, key: str, yes: bool) -> None:
    """Delete the secret under KEY in VAULT."""
    opened = open_vault(ctx.repo, vault)
    # A key that is not there is an error at once, not after a question.
    if opened.holds(key):
        ctx.require(f"Delete the secret '{key}' from vault '{vault}'?", agreed=yes)
    opened.delete(key)
    if ctx.json:
        ctx.document(
            {
                "vaultName": opened.name,
                "secretKey": key,
                "vaultType": opened.type,
                "timestamp": iso(ctx.now()),
            }
        )
    else:
        ctx.out(f"Deleted secret {key} from vault {opened.name}")
