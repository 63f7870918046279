"""Files that hold one definition each, a model or a workflow: found by name, read as text, checked one by one."""

from __future__ import annotations

import fcntl
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from swamp.errors import Invalid, SwampError
from swamp.names import can_be_a_name, listed
from swamp.yamlnode import Node

PLACEHOLDER_ID = "<generated-uuid>"  #: how people and documentation write "Swamp makes the id"
EXPRESSIONS_BEGIN = "${{"

T = TypeVar("T")

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at in a definition, and what is wrong with it, if anything."""

    name: str
    problem: SwampError | None = None

    @property
    def passed(self) -> bool:
        return self.problem is None

    def as_dict(self) -> dict[str, object]:
        """The `--json` form."""
        document: dict[str, object] = {"name": self.name, "passed": self.passed}
        if self.problem is not None:
            document["error"] = self.problem.message
            if self.problem.hint:
                document["hint"] = self.problem.hint
        return document


def is_id(text: str) -> bool:
    """Whether `text` is a definition's id: a UUID in lower case."""
    return _UUID.fullmatch(text) is not None


def new_id() -> str:
    """An id for a definition that is being created."""
    return str(uuid.uuid4())


def check_id(node: Node, what: str) -> str:
    """The id that stands at `node`. Raises `Invalid`."""
    text = node.text(f"'id' of {what}")
    if is_id(text.lower()):
        return text.lower()
    raise node.fail(f"'{text}' is no id", "an id is a UUID; uuidgen prints one")


def check_text(node: Node, what: str, check: Callable[[str], str]) -> str:
    """The text at `node` if `check` accepts it; what `check` raises gets its place. Raises `Invalid`."""
    text = node.text(what)
    try:
        return check(text)
    except Invalid as error:
        raise node.fail(error.message, error.hint) from error


def refuse_expressions(entries: Mapping[str, Node], *, but: str = "") -> None:
    """Raise `Invalid` if a value among `entries` (the one called `but` aside) holds `${{`: to pass it on as it stands
    would surprise everybody."""
    for name, node in entries.items():
        if name == but:
            continue
        for scalar in node.scalars():
            if isinstance(scalar.value, str) and EXPRESSIONS_BEGIN in scalar.value:
                raise scalar.fail(
                    "expressions (${{ … }}) are not evaluated here",
                    "they may stand in the arguments of a model's methods and in the inputs of a step",
                )


def read(path: Path, source: str) -> str:
    """The text of the file. Raises `Invalid` when it is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_text(source, error) from error


class Remembered(Generic[T]):
    """A `parse` of (text, source) that remembers what the last small texts were parsed to: who lives long and is asked
    for the same definition again and again reads it anew each time, and parses it once. What comes back is shared."""

    SMALL = 16 * 1024  #: characters; bigger ones are few, and what they become is big

    def __init__(self, parse: Callable[[str, str], T]) -> None:
        self._parse = parse
        self._remember = lru_cache(maxsize=64)(parse)

    def __call__(self, text: str, source: str) -> T:
        """Raises what `parse` raises, and does not remember that."""
        return (self._remember if len(text) <= self.SMALL else self._parse)(text, source)


def not_text(source: str, error: UnicodeDecodeError) -> Invalid:
    """The error for a definition that is not UTF-8; the caller raises it."""
    return Invalid(f"{source} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8")


def missing_hint(what: str, word: str, known: Sequence[str], create: str) -> str | None:
    """What to type when there is no definition called `word`: one of those that there are, or what creates it."""
    lines = [listed(what, known)] if known else []
    if can_be_a_name(word) and not is_id(word):
        lines.append(f"create it with: {create} {word}")
    return "\n".join(lines) or None


@contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Hold the directory, so that between looking for a name and taking it nobody else takes it."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
