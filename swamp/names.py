"""What things may be called, and which name somebody meant. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from swamp.errors import Invalid

NAME_LENGTH = 64
LISTED = 20  #: how many names a hint shows
TARGET_LENGTH = 63  #: with it, `rq:queue:<target>` and `swamp-…` names stay inside what every tool shows on a line

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TYPE = re.compile(r"@?[a-z0-9][a-z0-9-]*(/[a-z0-9][a-z0-9-]*)+")
_TARGET = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def check_name(text: str, what: str) -> str:
    """`text`, when it can name a model or a workflow, and so a file; `what` says which in the error.

    Raises `Invalid` otherwise.
    """
    if can_be_a_name(text):
        return text
    raise Invalid(
        f"'{text}' cannot be the name of a {what}",
        hint=f"use lower-case letters, digits, '-' and '_', beginning with a letter or digit, at most {NAME_LENGTH}",
    )


def check_part_name(text: str, what: str) -> str:
    """`text`, when it can name a job or a step. Raises `Invalid` otherwise."""
    if len(text) <= NAME_LENGTH and _PART.fullmatch(text):
        return text
    raise Invalid(
        f"'{text}' cannot be the name of a {what}",
        hint=f"use letters, digits, '-', '_' and '.', beginning with a letter or digit, at most {NAME_LENGTH}",
    )


def check_type_name(text: str) -> str:
    """`text`, when it can name a model type, and so a directory. Raises `Invalid` otherwise."""
    if _TYPE.fullmatch(text):
        return text
    raise Invalid(f"'{text}' cannot be the name of a model type", hint="a type is written as command/shell is")


def check_not_empty(text: str) -> str:
    """`text`, unless it is empty or blank. Raises `Invalid`."""
    if text.strip():
        return text
    raise Invalid("a name is empty here", hint="write the name between the quotes")


def check_target(text: str) -> str:
    """`text`, when it can name a target (a token, and so a queue). Raises `Invalid` otherwise."""
    if len(text) <= TARGET_LENGTH and _TARGET.fullmatch(text):
        return text
    raise Invalid(
        f"'{text}' cannot be the name of a target",
        hint=f"use lower-case letters and digits, in parts joined by single '-', at most {TARGET_LENGTH}",
    )


def run_of(dispatch: str) -> str:
    """The run that a dispatch belongs to: its id is `<target>--<run>-<position>-<attempt>`."""
    return dispatch.partition("--")[2].rsplit("-", 2)[0]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be; None when none is close."""
    close = get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return close[0] if close else None


def listed(what: str, known: Sequence[str]) -> str:
    """`models: a, b, c`, for a hint: all of them, or the first ones of many."""
    more = f", and {len(known) - LISTED} more" if len(known) > LISTED else ""
    return f"{what}: {', '.join(known[:LISTED])}{more}"


def can_be_a_name(text: str) -> bool:
    """Whether `check_name` accepts it."""
    return len(text) <= NAME_LENGTH and _NAME.fullmatch(text) is not None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'labels'?`, ready to stand at the end of a message; empty when no known word is close."""
    guess = nearest(word, known)
    return f"; did you mean '{guess}'?" if guess else ""
