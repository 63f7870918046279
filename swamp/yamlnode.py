"""A value out of a YAML text and where it stands: what readers of definitions ask it, and how it complains. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from swamp.errors import Invalid
from swamp.names import did_you_mean


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands."""

    value: str | int | float | bool | list[Node] | dict[str, Node] | None
    source: str
    line: int
    key_lines: Mapping[str, int] = field(default_factory=dict)  #: of a mapping: the line of each key
    size: int = 1  #: how many values it is made of, itself included and aliases written out

    def fail(self, message: str, hint: str | None = None, *, line: int | None = None) -> Invalid:
        """An error that names this place; the caller raises it."""
        return Invalid(f"{self.source}:{line or self.line}: {message}", hint=hint)

    def entries(self, what: str) -> dict[str, Node]:
        """The keys and values of a mapping. Raises `Invalid` when it is none; `what` names the value in the error."""
        if isinstance(self.value, dict):
            return self.value
        raise self._unexpected(what, "a mapping (key: value)")

    def items(self, what: str) -> list[Node]:
        """The members of a list. Raises `Invalid`."""
        if isinstance(self.value, list):
            return self.value
        raise self._unexpected(what, "a list (lines that begin with '- ')")

    def text(self, what: str) -> str:
        """A text. Raises `Invalid`; a number is no text unless it is quoted."""
        if isinstance(self.value, str):
            return self.value
        raise self._unexpected(what, "text")

    def whole(self, what: str, *, minimum: int) -> int:
        """A whole number of at least `minimum`. Raises `Invalid`."""
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            if self.value >= minimum:
                return self.value
            raise self.fail(f"{what} must be {minimum} or more, not {self.value}")
        raise self._unexpected(what, "a whole number")

    def texts(self, what: str) -> dict[str, str]:
        """A mapping of text to text. Raises `Invalid`. Whole numbers count as text, for they read back unchanged."""
        result = {}
        for key, node in self.entries(what).items():
            whole = isinstance(node.value, int) and not isinstance(node.value, bool)
            result[key] = str(node.value) if whole else node.text(f"'{key}' in {what}")
        return result

    def plain(self) -> object:
        """The value without its lines: JSON values only."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def plain_entries(self, what: str) -> dict[str, object]:
        """A mapping without its lines. Raises `Invalid` when it is none."""
        return {key: node.plain() for key, node in self.entries(what).items()}

    def scalars(self) -> Iterator[Node]:
        """Every single value inside, itself included if it is one."""
        if isinstance(self.value, dict):
            for node in self.value.values():
                yield from node.scalars()
        elif isinstance(self.value, list):
            for node in self.value:
                yield from node.scalars()
        else:
            yield self

    def _unexpected(self, what: str, wanted: str) -> Invalid:
        if self.value is None:
            return self.fail(f"{what} has no value; it must be {wanted}", "give it one, or remove the line")
        hint = None
        if wanted == "text" and not isinstance(self.value, list | dict):
            hint = f"put it in quotes: '{_shown(self.value)}'"
        return self.fail(f"{what} must be {wanted}, not {_kind(self.value)}", hint)


def check_keys(node: Node, valid: Collection[str], where: str, *, required: Collection[str] = ()) -> dict[str, Node]:
    """The entries of the mapping `node`, all of whose keys are valid and among which the required ones are.

    `where` names the mapping in errors, such as `step 'a'`. Raises `Invalid`.
    """
    entries = node.entries(where)
    for key in entries:
        if key not in valid:
            raise node.fail(
                f"unknown key '{key}' in {where}{did_you_mean(key, valid)}",
                f"valid keys: {', '.join(valid)}",
                line=node.key_lines[key],
            )
    for key in required:
        if key not in entries:
            value = "a UUID; uuidgen prints one" if key == "id" else "…"
            raise node.fail(f"{where} has no '{key}'", f"add a line: {key}: {value}")
    return entries


def _kind(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f"the text '{value}'" if len(value) <= 40 else "text"
    return f"the {'truth value' if isinstance(value, bool) else 'number'} {_shown(value)}"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
