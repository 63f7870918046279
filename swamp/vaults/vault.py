"""What a vault is: secrets by key. What it may be asked, and what its keys may be called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from swamp.errors import Invalid

TYPES: Mapping[str, str] = {"local_encryption": "Local encryption"}
"""The vault types, with the name that people read."""

KEY_LENGTH = 200

TOKENS = "worker-token-"
"""Begins the keys of enrollment tokens. They are for people, who take them to machines: no step may name one."""

_KEY = re.compile(r"[A-Za-z0-9._/-]+")


@dataclass(frozen=True)
class VaultInfo:
    """A vault as its configuration file describes it; holds no secret."""

    id: str
    name: str
    type: str
    config: Mapping[str, object]
    created_at: str
    path: Path
    """The configuration file."""


class Vault(Protocol):
    """Secrets by key. A value is text and never part of an error message. Every method may be called by several
    processes at once."""

    @property
    def name(self) -> str: ...

    @property
    def type(self) -> str: ...

    def get(self, key: str) -> str:
        """The secret. Raises `NotFound`, or `Invalid` when it cannot be decrypted."""

    def put(self, key: str, value: str) -> None:
        """Store the secret durably, in place of an older one. Raises `Invalid` for a bad key or a value that is no
        text."""

    def delete(self, key: str) -> None:
        """Remove the secret durably. Raises `NotFound`."""

    def keys(self) -> list[str]:
        """The keys, sorted."""

    def holds(self, key: str) -> bool:
        """Whether there is a secret of that key."""


def check_key(text: str) -> str:
    """`text`, when it can be the key of a secret. Raises `Invalid` otherwise.

    A key is made of letters, digits, `.`, `_`, `-` and, between its parts, `/`; no part is `.` or `..`.
    """
    if "=" in text:
        # What follows the sign is most likely the secret: it must not be shown.
        raise Invalid(
            f"'{text.partition('=')[0]}=…' cannot be the key of a secret",
            hint="key and value are two arguments: swamp vault put <vault> <key> <value>",
        )
    parts = text.split("/")
    if _KEY.fullmatch(text) and len(text) <= KEY_LENGTH and not {"", ".", ".."}.intersection(parts):
        return text
    raise Invalid(
        f"'{text}' cannot be the key of a secret",
        hint=f"use letters, digits, '.', '_', '-', and '/' between parts, at most {KEY_LENGTH} characters",
    )
