"""`.swamp.yaml`, the file that makes a directory a repository: when it was made, by which version, and its id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from swamp.clock import iso
from swamp.errors import Invalid
from swamp.files import create_atomically, write_atomically
from swamp.repo import MARKER, Repo
from swamp.yamlfile import Node, dump, load

_VERSION, _CREATED, _ID = "swampVersion", "initializedAt", "repoId"


@dataclass(frozen=True)
class Marker:
    """What `.swamp.yaml` says. Keys that Swamp does not know are left alone there."""

    swamp_version: str
    """The version of Swamp that made the repository."""
    initialized_at: str
    repo_id: str
    """A UUID; tells this repository from every other one, on a shared Redis server for instance."""


def read(repo: Repo) -> Marker:
    """The marker of `repo`. Raises `Invalid` when it is damaged or lacks a key."""
    entries = _entries(repo)
    values = {key: _text(entries[key], key) for key in (_VERSION, _CREATED, _ID) if key in entries}
    missing = [key for key in (_VERSION, _CREATED, _ID) if key not in values]
    if missing:
        raise Invalid(f"{MARKER} has no '{missing[0]}'", hint="add what is missing with: swamp repo init --force")
    return Marker(values[_VERSION], values[_CREATED], values[_ID])


def create(repo: Repo, version: str, now: datetime, repo_id: UUID) -> Marker:
    """Write the marker of a new repository. Raises `FileExistsError` when there is one."""
    text = dump({_VERSION: version, _CREATED: iso(now), _ID: str(repo_id)})
    create_atomically(repo.marker, text.encode())
    return read(repo)


def complete(repo: Repo, version: str, now: datetime, repo_id: UUID) -> Marker:
    """Add the keys that the marker of `repo` lacks, and keep all that it holds, comments too.

    Raises `Invalid` when the file is damaged: only a person can tell what was meant.
    """
    have = _entries(repo)
    wanted = {_VERSION: version, _CREATED: iso(now), _ID: str(repo_id)}
    missing = {key: value for key, value in wanted.items() if key not in have}
    if missing:
        old = repo.marker.read_text(encoding="utf-8")
        text = old if not old or old.endswith("\n") else old + "\n"
        write_atomically(repo.marker, (text + dump(missing)).encode(), repo.marker.stat().st_mode & 0o777)
    return read(repo)


def _entries(repo: Repo) -> dict[str, Node]:
    try:
        text = repo.marker.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(f"{MARKER} is not text") from error
    if not re.search(r"^[^#\s]", text, re.MULTILINE):
        return {}  # empty, or comments only
    return load(text, MARKER).entries(MARKER)


def _text(node: Node, key: str) -> str:
    return node.text(f"'{key}'")
