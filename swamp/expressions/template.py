"""Text with expressions in it. The one expression is `${{ vault.get('<vault>', '<key>') }}`: a secret. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from swamp.definitions import EXPRESSIONS_BEGIN
from swamp.yamlnode import Node

EXAMPLE = "${{ vault.get('<vault>', '<key>') }}"

_TEXT = r"""'[^'"\\\n]*'|"[^'"\\\n]*\""""
_VAULT_GET = re.compile(rf"\$\{{\{{\s*vault\.get\(\s*({_TEXT})\s*,\s*({_TEXT})\s*\)\s*\}}\}}")
_SHOWN = 60  # characters of an expression that an error repeats


@dataclass(frozen=True, slots=True)
class VaultGet:
    """A reference to a secret. It says where the secret is, and nothing of what it is."""

    vault: str
    key: str

    def __str__(self) -> str:
        return f"${{{{ vault.get('{self.vault}', '{self.key}') }}}}"


Part = str | VaultGet


def parse(text: str) -> tuple[Part, ...]:
    """The pieces of `text`, in order. Raises `ValueError` with the rest of a sentence that begins with its name."""
    parts: list[Part] = []
    end = 0
    while (begin := text.find(EXPRESSIONS_BEGIN, end)) >= 0:
        found = _VAULT_GET.match(text, begin)
        if found is None:
            raise ValueError(_why_not(text[begin:]))
        if begin > end:
            parts.append(text[end:begin])
        parts.append(VaultGet(found[1][1:-1], found[2][1:-1]))
        end = found.end()
    if end < len(text):
        parts.append(text[end:])
    return tuple(parts)


def fill(text: str, value: Callable[[VaultGet], str]) -> str:
    """`text` with each reference replaced by its value. What `parse` refuses was refused long before."""
    return "".join(part if isinstance(part, str) else value(part) for part in parse(text))


def references(value: object) -> Iterator[VaultGet]:
    """Every reference in a JSON value, in order, repeated ones too."""
    if isinstance(value, str):
        if EXPRESSIONS_BEGIN in value:
            yield from (part for part in parse(value) if isinstance(part, VaultGet))
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from references(entry)
    elif isinstance(value, Sequence):
        for entry in value:
            yield from references(entry)


def check_expressions(node: Node) -> None:
    """Raise `Invalid` if a value in `node` holds an expression that is not understood, naming its line."""
    for scalar in node.scalars():
        if isinstance(scalar.value, str):
            try:
                parse(scalar.value)
            except ValueError as error:
                raise scalar.fail(f"the value {error}") from None


def _why_not(text: str) -> str:
    end = text.find("}}")
    if end < 0:
        return f"holds {EXPRESSIONS_BEGIN} without }}}}; the one expression there is: {EXAMPLE}"
    shown = " ".join(text[: end + 2].split())
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}…"
    return f"holds {shown}, which cannot be evaluated; the one expression there is: {EXAMPLE}"
