"""`swamp repo init`, also `swamp init`: make a directory a repository."""

from __future__ import annotations

import os
import shlex
import uuid
from pathlib import Path

import click

import swamp
from swamp import marker
from swamp.cli.context import Context, PathThatSaysSomething, examples, swamp_options, working_directory
from swamp.errors import Invalid, NotFound
from swamp.files import make_private_dir, write_atomically
from swamp.repo import Repo

NEXT = (
    "swamp vault create local_encryption sandbox-vault",
    "swamp worker token create build-node --duration 1h",
    "swamp serve",
)

_IGNORED = ".swamp/"


@click.command("init", epilog=examples("swamp repo init", "swamp repo init ~/infrastructure"))
@click.argument("path", required=False, type=PathThatSaysSomething(path_type=Path))
@click.option("-f", "--force", is_flag=True, help="In a repository: make what is missing, keep all the rest.")
@swamp_options
def command(ctx: Context, path: Path | None, force: bool) -> None:
    """Make PATH (default: the current directory) a Swamp repository.

    It gets models/, workflows/, vaults/, and .swamp/ for what Swamp itself writes; .gitignore keeps that out of git.
    """
    asked = path or ctx.repo_dir or Path()
    repo = Repo((asked if asked.is_absolute() else working_directory() / asked).resolve())
    existed = repo.marker.exists()
    if existed and not force:
        raise _already(repo)
    _refuse_what_is_in_the_way(repo)
    outer = _surrounding(repo)

    version, now, repo_id = swamp.__version__, ctx.now(), uuid.uuid4()
    known = marker.complete(repo, version, now, repo_id) if existed else None
    for directory in (repo.root, repo.models, repo.workflows, repo.vaults):
        directory.mkdir(parents=True, exist_ok=True)
    make_private_dir(repo.state)
    action = _ignore_state(repo.root / ".gitignore")
    if known is None:
        # Last: a repository that can be found is complete.
        try:
            known = marker.create(repo, version, now, repo_id)
        except FileExistsError:
            raise _already(repo) from None

    here = repo.root.samefile(os.curdir)
    steps = ([] if here else [f"cd {shlex.quote(str(asked))}"]) + list(NEXT)
    if ctx.json:
        ctx.document(
            {
                "path": str(repo.root),
                "version": known.swamp_version,
                "initializedAt": known.initialized_at,
                "repoId": known.repo_id,
                "gitignoreAction": action,
                "nextSteps": steps,
            }
        )
        return
    ctx.out(f"{'Completed the' if existed else 'Initialized a'} Swamp repository at {repo.root}")
    ctx.out("What's next:")
    for step in steps:
        ctx.out(f"  {step}")
    if outer is not None:
        ctx.say(f"Note: it lies inside another repository, {outer.root}")


def _already(repo: Repo) -> Invalid:
    return Invalid(
        f"{repo.root} is a Swamp repository already",
        hint="--force makes what is missing and keeps the rest",
        code="exists",
    )


def _refuse_what_is_in_the_way(repo: Repo) -> None:
    """Before anything is made: half a repository helps nobody."""
    above = next(directory for directory in (repo.root, *repo.root.parents) if directory.exists())
    for directory in (above, repo.models, repo.workflows, repo.vaults, repo.state):
        if directory.exists() and not directory.is_dir():
            raise Invalid(f"{directory} is in the way: it is not a directory", hint="move it, or choose another place")
    for file in (repo.marker, repo.root / ".gitignore"):
        if file.exists() and not file.is_file():
            raise Invalid(f"{file} is in the way: it is not a file", hint="move it, or choose another place")


def _surrounding(repo: Repo) -> Repo | None:
    try:
        return Repo.find(None, repo.root.parent)
    except NotFound:
        return None


def _ignore_state(file: Path) -> str:
    """Make git leave `.swamp/` alone; what was done: created, appended or kept."""
    if not file.exists():
        write_atomically(file, f"{_IGNORED}\n".encode())
        return "created"
    content = file.read_bytes()
    lines = {line.strip().strip(b"/") for line in content.splitlines()}
    if _IGNORED.strip("/").encode() in lines:
        return "kept"
    if content and not content.endswith(b"\n"):
        content += b"\n"
    target = file.resolve()  # a link stays a link
    write_atomically(target, content + f"{_IGNORED}\n".encode(), target.stat().st_mode & 0o777)
    return "appended"
