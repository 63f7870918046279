"""`swamp vault put`: store a secret."""

from __future__ import annotations

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.clock import iso
from swamp.errors import Invalid, Usage
from swamp.models.redaction import MASK, SHORTEST, is_too_short
from swamp.typed import wipe
from swamp.vaults.catalog import open_vault
from swamp.vaults.vault import check_key


class CommandWithSecret(click.Command):
    """Says of a value that looks like an option (`-----BEGIN …`) that it is not one, without showing it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except (click.NoSuchOption, click.BadOptionUsage):
            raise Usage(
                "unknown option, or a value that begins with '-'",
                hint="give such a value on stdin: swamp vault put <vault> <key> < file\n"
                f"options: {', '.join(name for option in self.params for name in option.opts if name[0] == '-')}",
            ) from None


@click.command(
    "put",
    cls=CommandWithSecret,
    epilog=examples(
        "swamp vault put sandbox-vault api-key              # asks, and does not show what is typed",
        "swamp vault put sandbox-vault tls/key < key.pem",
        "swamp vault put sandbox-vault region eu-west-1 -y",
    ),
)
@click.argument("vault")
@click.argument("key")
@click.argument("value", nargs=-1, metavar="[VALUE]")
@click.option("-y", "--yes", is_flag=True, help="Overwrite without asking.")
@swamp_options
def command(ctx: Context, vault: str, key: str, value: tuple[str, ...], yes: bool) -> None:
    """Store a secret under KEY in VAULT.

    Without VALUE the secret is read from stdin (one newline at its end is left out), or asked for on the terminal. A
    VALUE on the command line can be seen by other users of this machine until the command has begun, and may be kept
    in your shell's history.
    """
    wipe(*value)
    opened = open_vault(ctx.repo, vault)
    check_key(key)
    if len(value) > 1:
        raise Usage(f"the value is {len(value)} words; it must be one", hint="put it in quotes, or give it on stdin")
    overwritten = opened.holds(key)
    if overwritten:
        ctx.require(f"Overwrite the secret '{key}' in vault '{vault}'?", agreed=yes)
    secret = value[0] if value else _ask_or_read(ctx, key)
    if not secret:
        raise Invalid(f"the value for '{key}' is empty", hint="give one as an argument, on stdin, or when asked")
    opened.put(key, secret)
    if ctx.json:
        ctx.document(
            {
                "vaultName": opened.name,
                "secretKey": key,
                "vaultType": opened.type,
                "overwritten": overwritten,
                "timestamp": iso(ctx.now()),
            }
        )
    else:
        ctx.out(f"Stored secret {key} in vault {opened.name}")
    if is_too_short(secret):
        ctx.say(f"It has fewer than {SHORTEST} characters: in what steps print, it is not replaced by {MASK}")


def _ask_or_read(ctx: Context, key: str) -> str:
    if ctx.stdin_is_terminal:
        return ctx.ask_hidden(f"Value for {key}")
    try:
        text = ctx.read_stdin().decode()
    except UnicodeDecodeError:
        # Not chained: the original error carries the value.
        raise Invalid(f"the value for '{key}' is not UTF-8 text", hint="encode it, for example with base64") from None
    return text.removesuffix("\r\n" if text.endswith("\r\n") else "\n")
