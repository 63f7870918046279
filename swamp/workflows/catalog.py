"""The workflows of a repository: one YAML file each, `workflows/<name>.yaml`."""

from __future__ import annotations

from pathlib import Path

from swamp import files
from swamp.definitions import Remembered, is_id, missing_hint, one_at_a_time, read
from swamp.errors import Invalid, NotFound
from swamp.names import did_you_mean
from swamp.repo import Repo
from swamp.workflows.parsing import parse_workflow
from swamp.workflows.workflow import Workflow

_parse = Remembered(parse_workflow)


def workflow_files(repo: Repo) -> list[Path]:
    """All files that should hold a workflow, in the order of their names. Raises `OSError` if they cannot be seen."""
    try:
        found = list(repo.workflows.iterdir())
    except FileNotFoundError:
        return []
    return sorted(path for path in found if path.suffix == ".yaml" and not path.name.startswith(".") and path.is_file())


def workflow_place(repo: Repo, name: str) -> Path:
    """The file in which a workflow has to be."""
    return repo.workflows / f"{name}.yaml"


def load_workflow(repo: Repo, path: Path) -> Workflow:
    """The workflow in one file. Raises `Invalid` when it holds none, or one of another name than the file's."""
    source = source_of(repo, path)
    workflow = _parse(read(path, source), source)
    check_place(path, workflow)
    return workflow


def load_workflows(repo: Repo) -> list[Workflow]:
    """All workflows, by name. Raises `Invalid` for the first file that holds none."""
    return [load_workflow(repo, path) for path in workflow_files(repo)]


def find_workflow(repo: Repo, id_or_name: str) -> Workflow:
    """The workflow with this name or id. Raises `NotFound`, naming the nearest; `Invalid` when its file is wrong."""
    return load_workflow(repo, find_workflow_file(repo, id_or_name))


def find_workflow_file(repo: Repo, id_or_name: str) -> Path:
    """Where the workflow is, whether or not the file holds what it should. Raises as `find_workflow`."""
    known = workflow_files(repo)
    places = [path for path in known if path.stem == id_or_name]
    if not places and is_id(id_or_name):
        places = [path for path in known if _has_id(repo, path, id_or_name)]
    if len(places) > 1:
        raise Invalid(
            f"the id {id_or_name} is used by {' and '.join(source_of(repo, path) for path in places)}",
            hint="give one of them another id; uuidgen prints one",
        )
    if places:
        return places[0]
    raise NotFound(
        f"there is no workflow '{id_or_name}'{did_you_mean(id_or_name, [path.stem for path in known])}",
        hint=missing_hint("workflows", id_or_name, [path.stem for path in known], "swamp workflow create"),
        code="workflow_not_found",
    )


def save(repo: Repo, workflow: Workflow, text: str) -> Path:
    """Store a new workflow as `text`, which describes it; its file.

    Raises `Invalid` when its name or its id is taken.
    """
    place = workflow_place(repo, workflow.name)
    with one_at_a_time(repo.workflows):
        for path in workflow_files(repo):
            if path != place and _has_id(repo, path, workflow.id):
                raise Invalid(
                    f"the id {workflow.id} already belongs to {source_of(repo, path)}",
                    hint="leave the id line out; swamp then makes an id",
                    code="already_exists",
                )
        try:
            files.create_atomically(place, text.encode())
        except FileExistsError as error:
            raise Invalid(
                f"a workflow '{workflow.name}' already exists: {source_of(repo, place)}",
                hint=f"edit the file, or remove it with: swamp workflow delete {workflow.name}",
                code="already_exists",
            ) from error
    return place


def delete(path: Path) -> None:
    """Remove a workflow's file; its past runs stay. Raises `NotFound` when somebody was faster."""
    try:
        files.remove_durably(path)
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no workflow '{path.stem}' any more",
            hint="somebody has just deleted it",
            code="workflow_not_found",
        ) from error


def check_place(path: Path, workflow: Workflow) -> None:
    """Raise `Invalid` unless the file is called as its workflow."""
    if path.stem != workflow.name:
        raise Invalid(
            f"{workflow.path} holds the workflow '{workflow.name}'",
            hint=f"rename the file to {workflow.name}.yaml, or correct the name in it",
        )


def source_of(repo: Repo, path: Path) -> str:
    """The file as errors name it: `workflows/x.yaml`."""
    return path.relative_to(repo.root).as_posix()


def _has_id(repo: Repo, path: Path, wanted: str) -> bool:
    """Reading is much faster than parsing, and a broken file elsewhere does no harm here."""
    if wanted.encode() not in path.read_bytes().lower():
        return False
    try:
        return load_workflow(repo, path).id == wanted
    except Invalid:
        return False
