"""A workflow: jobs made of steps, and what each of them waits for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Condition = Literal["succeeded", "failed", "completed", "skipped", "always"]

CONDITIONS: tuple[Condition, ...] = get_args(Condition)


@dataclass(frozen=True)
class Dependency:
    """Wait until `on` has ended, then go on only if it ended as `condition` says.

    `completed` is succeeded or failed; `always` is any end.
    """

    on: str  #: the name of a job (in a job) or of a step of the same job (in a step)
    condition: Condition
    line: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True)
class Task:
    """Which method of which model a step calls."""

    model: str  #: the model's name or id
    method: str
    inputs: Mapping[str, object]  #: laid over the model's own arguments; JSON values only


@dataclass(frozen=True)
class Step:
    name: str
    task: Task
    target: str | None  #: where it runs; None: beside the engine
    depends_on: tuple[Dependency, ...] = ()
    description: str = ""
    line: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True)
class Job:
    name: str
    steps: tuple[Step, ...]
    depends_on: tuple[Dependency, ...] = ()
    concurrency: int | None = None  #: steps at once; None: no limit
    description: str = ""
    line: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True)
class Workflow:
    """A checked workflow: names are unique, references lead somewhere, nothing waits for itself."""

    id: str
    name: str
    description: str
    version: int
    tags: Mapping[str, str]  #: laid over the models' tags on everything that a run produces
    concurrency: int | None  #: jobs at once; None: no limit
    jobs: tuple[Job, ...]
    path: str = field(default="", compare=False)  #: where it was read from, as errors name it: `workflows/x.yaml`


def parse_workflow(text: str, source: str, *, new_id: str | None = None) -> Workflow:
    """The workflow that the YAML `text` describes; `source` names it in errors.

    `new_id` is taken where the text has no id of its own (none, or the placeholder `<generated-uuid>`).
    Raises `Invalid` with source and line for the first thing that is wrong.
    """
    raise NotImplementedError
