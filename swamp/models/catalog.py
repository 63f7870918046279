"""The models of a repository: one YAML file each, `models/<type>/<name>.yaml`. No two have the same name."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path

from swamp import files, yamlfile
from swamp.definitions import Remembered, is_id, missing_hint, one_at_a_time, read
from swamp.errors import Invalid, NotFound
from swamp.models.definition import ModelDefinition, document, parse_model
from swamp.names import did_you_mean
from swamp.repo import Repo

_parse = Remembered(parse_model)


def model_files(repo: Repo) -> list[Path]:
    """All files that should hold a model, in the order of their names."""
    return sorted(_named(repo, "*"), key=lambda path: (path.stem, path))


def model_directories(repo: Repo) -> list[Path]:
    """All directories where models may lie."""
    return [Path(place) for place, _ in _walk(repo)]


def model_place(repo: Repo, type_name: str, name: str) -> Path:
    """The file in which a model has to be."""
    return repo.models / type_name / f"{name}.yaml"


def load_model(repo: Repo, path: Path) -> ModelDefinition:
    """The model in one file. Raises `Invalid` when it holds none, or another one than its place says."""
    source = path.relative_to(repo.root).as_posix()
    model = _parse(read(path, source), source)
    place = model_place(repo, model.type, model.name)
    if path != place:
        raise Invalid(
            f"{source} holds the model '{model.name}' of type {model.type}, which belongs elsewhere",
            hint=f"move it to {place.relative_to(repo.root)}, or correct its name or type",
        )
    return model


def load_models(repo: Repo) -> list[ModelDefinition]:
    """All models, by name. Raises `Invalid` for the first file that holds none."""
    return [load_model(repo, path) for path in model_files(repo)]


def find_model(repo: Repo, id_or_name: str) -> ModelDefinition:
    """The model with this name or id. Raises `NotFound`, naming the nearest; `Invalid` when its file is wrong."""
    return load_model(repo, find_model_file(repo, id_or_name))


def find_model_file(repo: Repo, id_or_name: str) -> Path:
    """Where the model with this name or id is, whether or not the file holds what it should. Raises as `find_model`."""
    places = [path for path in model_files(repo) if path.stem == id_or_name]
    if not places and is_id(id_or_name):
        places = [path for path in _mentioning(repo, id_or_name) if load_model(repo, path).id == id_or_name]
    if len(places) > 1:
        shown = " and ".join(path.relative_to(repo.root).as_posix() for path in places)
        raise Invalid(f"the model '{id_or_name}' exists more than once: {shown}", hint="remove or rename one of them")
    if places:
        return places[0]
    names = sorted({path.stem for path in model_files(repo)})
    raise NotFound(
        f"there is no model '{id_or_name}'{did_you_mean(id_or_name, names)}",
        hint=missing_hint("models", id_or_name, names, "swamp model create <type>"),
        code="model_not_found",
    )


def save_model(repo: Repo, model: ModelDefinition) -> Path:
    """Store a new model; its file. Raises `Invalid` when a model of that name exists, whatever its type."""
    place = model_place(repo, model.type, model.name)
    with one_at_a_time(repo.models):
        for taken in _named(repo, model.name):
            raise Invalid(
                f"a model '{model.name}' already exists: {taken.relative_to(repo.root)}",
                hint=f"choose another name, or remove it with: swamp model delete {model.name}",
                code="already_exists",
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        files.create_atomically(place, yamlfile.dump(document(model)).encode())
    return place


def delete_model(path: Path) -> None:
    """Remove a model's file; what the model produced stays. Raises `NotFound` when somebody was faster."""
    try:
        files.remove_durably(path)
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no model '{path.stem}' any more", hint="somebody has just deleted it", code="model_not_found"
        ) from error


def _walk(repo: Repo) -> Iterator[tuple[str, list[str]]]:
    """Each directory, and what is in it. Those that may not be read are an error (`OSError`), not silently empty as
    with `rglob`."""
    for place, directories, names in os.walk(repo.models, onerror=_refuse):
        directories[:] = [name for name in directories if not name.startswith(".")]
        yield place, names


def _named(repo: Repo, pattern: str) -> Iterator[Path]:
    for place, names in _walk(repo):
        for name in fnmatch.filter(names, f"{pattern}.yaml"):
            path = Path(place, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # no models/ yet, or a directory that was just removed
        raise error


def _mentioning(repo: Repo, text: str) -> Iterator[Path]:
    """Files that hold `text`: reading is much faster than parsing, and a broken file elsewhere does no harm."""
    return (path for path in model_files(repo) if text.encode() in path.read_bytes().lower())
