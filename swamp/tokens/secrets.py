"""Where a token's text lies: in its vault, and, if its owner asks for it, in a file for the worker to read.

The texts that a token had before stay in the vault: a machine that still comes with one is then answered inside the
handshake, where the answer proves itself, instead of being left to try for ever.
"""

from __future__ import annotations

from pathlib import Path

from swamp.errors import Invalid, SwampError
from swamp.files import write_atomically
from swamp.tokens.token import Token, parse, superseded_key
from swamp.vaults.vault import Vault

MOST_SUPERSEDED = 8  #: a handshake tries each of them


def keep(vault: Vault, token: Token, text: str, before: str | None = None) -> None:
    """Put the token's new text into its vault; `before` is the one that it replaces, if that can still be read."""
    if before is not None:
        older = [line for line in _lines(vault, superseded_key(token.name)) if line != before]
        vault.put(superseded_key(token.name), "\n".join([before, *older[: MOST_SUPERSEDED - 1]]))
    vault.put(token.vault_key, text)


def known(vault: Vault, token: Token) -> list[bytes]:
    """The token's secret, then those that it had before. Raises a `SwampError` where the first cannot be read."""
    texts = [vault.get(token.vault_key), *_lines(vault, superseded_key(token.name))]
    return [secret for name, secret in map(parse, texts) if name == token.name]


def write_file(path: Path, text: str) -> None:
    """Write the token's text into a file of its own (0600), in place of what was there, whole or not at all.

    Raises `Invalid`.
    """
    try:
        write_atomically(path, f"{text}\n".encode(), mode=0o600)
    except OSError as error:
        raise Invalid(
            f"the token cannot be written to {path}: {error.strerror or error}",
            hint="name a file in a directory that exists and that this user may write",
            code="output_file",
        ) from error


def holds(path: Path, text: str) -> bool:
    """Whether the file holds the token's text, for its owner alone."""
    try:
        return path.read_text(encoding="utf-8", errors="replace") == f"{text}\n" and path.stat().st_mode & 0o077 == 0
    except OSError:
        return False  # writing it will say what is wrong


def _lines(vault: Vault, key: str) -> list[str]:
    try:
        return vault.get(key).split("\n") if vault.holds(key) else []
    except SwampError:
        return []  # a damaged list of old secrets must not keep the new one from being used
