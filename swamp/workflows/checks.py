"""What must hold between the parts of a workflow, and between it and the models: each check has a name and an answer.

Pure; where models come from is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from swamp.definitions import Check
from swamp.errors import Invalid, NotFound, SwampError
from swamp.models.definition import ModelDefinition, invocation
from swamp.models.resolve import ReadSecret, check_secrets
from swamp.names import did_you_mean
from swamp.workflows.graph import find_cycle
from swamp.workflows.workflow import Dependency, Job, Step, Workflow


def structure(workflow: Workflow, source: str) -> Iterator[Check]:
    """Names are unique, references lead somewhere, nothing waits for itself."""
    jobs = workflow.jobs
    owners = {step.name: job.name for job in jobs for step in job.steps}
    yield Check("Unique job names", _repeated(jobs, "job", source))
    for job in jobs:
        yield Check(f"Unique step names in job '{job.name}'", _repeated(job.steps, "step", source))
    yield Check("Valid job dependencies", _dangling(jobs, "job", source, {}))
    for job in jobs:
        yield Check(f"Valid step dependencies in job '{job.name}'", _dangling(job.steps, "step", source, owners))
    yield Check("No cyclic job dependencies", _cyclic(jobs, source))
    for job in jobs:
        yield Check(f"No cyclic step dependencies in job '{job.name}'", _cyclic(job.steps, source))


def steps(
    workflow: Workflow, source: str, find: Callable[[str], ModelDefinition], secret: ReadSecret
) -> Iterator[Check]:
    """The model, the method and the secrets that each step names exist, and the method takes the step's arguments."""
    found: dict[str, ModelDefinition | SwampError] = {}
    for job in workflow.jobs:
        for step in job.steps:
            task = step.task
            if task.model not in found:
                try:
                    found[task.model] = find(task.model)
                except SwampError as error:
                    found[task.model] = error
            name = f"Step '{step.name}' in job '{job.name}' ({task.model}.{task.method})"
            yield Check(name, _call_problem(found[task.model], step, source, secret))


def _call_problem(
    model: ModelDefinition | SwampError, step: Step, source: str, secret: ReadSecret
) -> SwampError | None:
    try:
        if isinstance(model, SwampError):
            raise model
        check_secrets(invocation(model, step.task.method, step.task.inputs), secret)
    except NotFound as error:
        return NotFound(f"{source}:{step.line}: step '{step.name}': {error.message}", hint=error.hint, code=error.code)
    except SwampError as error:
        return Invalid(f"{source}:{step.line}: step '{step.name}': {error.message}", hint=error.hint, code=error.code)
    return None


def _repeated(parts: Sequence[Job | Step], what: str, source: str) -> Invalid | None:
    first: dict[str, int] = {}
    for part in parts:
        if part.name in first:
            return Invalid(
                f"{source}:{part.line}: a second {what} is called '{part.name}'",
                hint=f"the first one stands in line {first[part.name]}; rename one of them",
            )
        first[part.name] = part.line
    return None


def _dangling(parts: Sequence[Job | Step], what: str, source: str, owners: Mapping[str, str]) -> Invalid | None:
    names = {part.name for part in parts}
    for part in parts:
        seen: set[str] = set()
        for dependency in part.depends_on:
            place = f"{source}:{dependency.line}: {what} '{part.name}'"
            if dependency.on not in names:
                return Invalid(
                    f"{place} depends on {what} '{dependency.on}', which does not exist"
                    f"{did_you_mean(dependency.on, names)}",
                    hint=_elsewhere(dependency.on, what, owners, names),
                )
            if dependency.on in seen:
                return Invalid(f"{place} depends on {what} '{dependency.on}' twice", hint="keep one of the two")
            seen.add(dependency.on)
    return None


def _elsewhere(name: str, what: str, owners: Mapping[str, str], names: Collection[str]) -> str:
    if name in owners:
        return f"it is a step of job '{owners[name]}': let the jobs depend on each other instead"
    return f"{what}s there: {', '.join(sorted(names))}"


def _cyclic(parts: Sequence[Job | Step], source: str) -> Invalid | None:
    cycle = find_cycle({part.name: [dependency.on for dependency in part.depends_on] for part in parts})
    if cycle is None:
        return None
    line = next(_line_of(part.depends_on, cycle[1]) for part in parts if part.name == cycle[0])
    return Invalid(
        f"{source}:{line}: cyclic dependency: {' -> '.join(cycle)}",
        hint="each of them waits for the next; remove one of these dependencies",
    )


def _line_of(dependencies: Sequence[Dependency], on: str) -> int:
    return next(dependency.line for dependency in dependencies if dependency.on == on)
