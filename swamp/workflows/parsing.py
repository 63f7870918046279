"""Workflow files read: what is written in one becomes a `Workflow`, or an error with its line. Pure."""

from __future__ import annotations

from typing import TypeVar

from swamp import yamlfile
from swamp.definitions import PLACEHOLDER_ID, check_id, check_text, refuse_expressions
from swamp.expressions.template import check_expressions
from swamp.names import check_name, check_not_empty, check_part_name, check_target, did_you_mean
from swamp.workflows import checks
from swamp.workflows.workflow import (
    CONDITIONS,
    LOST_TIMEOUT,
    ON_WORKER_LOST,
    TASK_TYPE,
    Condition,
    Dependency,
    Job,
    OnWorkerLost,
    Step,
    Task,
    Workflow,
)
from swamp.yamlnode import Node, check_keys

WORKFLOW_KEYS = ("id", "name", "description", "version", "tags", "concurrency", "jobs")
JOB_KEYS = ("name", "description", "dependsOn", "concurrency", "steps")
STEP_KEYS = (
    "name", "description", "target", "dependsOn", "task", "onWorkerLost", "lostTimeout", "queueTimeout",
)  # fmt: skip
PLACED_KEYS = ("onWorkerLost", "lostTimeout", "queueTimeout")
TASK_KEYS = ("type", "modelIdOrName", "methodName", "inputs")


def parse_workflow(text: str, source: str, *, new_id: str | None = None) -> Workflow:
    """The workflow that the YAML `text` describes; `source` names it in errors.

    `new_id` is taken where the text has no id of its own (none, or the placeholder `<generated-uuid>`).
    Raises `Invalid` with source and line for the first thing that is wrong. Models are not looked at.
    """
    workflow = parse_parts(text, source, new_id=new_id)
    for check in checks.structure(workflow, source):
        if check.problem is not None:
            raise check.problem
    return workflow


def parse_parts(text: str, source: str, *, new_id: str | None = None) -> Workflow:
    """As `parse_workflow`, but without the checks between its parts (`checks.structure`)."""
    root = yamlfile.load(text, source)
    required = ("name", "jobs") if new_id else ("id", "name", "jobs")
    entries = check_keys(root, WORKFLOW_KEYS, "the workflow", required=required)
    refuse_expressions(entries, but="jobs")
    jobs = entries["jobs"].items("'jobs' of the workflow")
    if not jobs:
        raise entries["jobs"].fail("the workflow has no jobs", "list at least one job with at least one step")
    tags = entries.get("tags")
    version = entries.get("version")
    return Workflow(
        id=_id(entries, new_id),
        name=check_text(entries["name"], "'name' of the workflow", lambda name: check_name(name, "workflow")),
        description=_description(entries, "the workflow"),
        version=version.whole("'version' of the workflow", minimum=1) if version else 1,
        tags=tags.texts("'tags' of the workflow") if tags else {},
        concurrency=_concurrency(entries, "the workflow"),
        jobs=tuple(_job(node, number) for number, node in enumerate(jobs, 1)),
        path=source,
    )


def _id(entries: dict[str, Node], new_id: str | None) -> str:
    if new_id is not None and ("id" not in entries or entries["id"].value == PLACEHOLDER_ID):
        return new_id
    return check_id(entries["id"], "the workflow")


def _job(node: Node, number: int) -> Job:
    where = _where(node, "job", number)
    entries = check_keys(node, JOB_KEYS, where, required=("name", "steps"))
    refuse_expressions(entries, but="steps")
    steps = entries["steps"].items(f"'steps' of {where}")
    if not steps:
        raise entries["steps"].fail(f"{where} has no steps", "list at least one step")
    return Job(
        name=check_text(entries["name"], f"'name' of {where}", lambda name: check_part_name(name, "job")),
        steps=tuple(_step(step, number) for number, step in enumerate(steps, 1)),
        depends_on=_dependencies(entries, "job", where),
        concurrency=_concurrency(entries, where),
        description=_description(entries, where),
        line=node.line,
    )


def _step(node: Node, number: int) -> Step:
    where = _where(node, "step", number)
    entries = check_keys(node, STEP_KEYS, where, required=("name", "task"))
    refuse_expressions(entries, but="task")
    target = entries.get("target")
    for key in PLACED_KEYS:
        if key in entries and target is None:
            raise entries[key].fail(f"{where} has '{key}' and no target", "only steps on a target can lose a worker")
    on_worker_lost: OnWorkerLost = "fail"
    if "onWorkerLost" in entries:
        on_worker_lost = _on_worker_lost(entries["onWorkerLost"], where)
    return Step(
        name=check_text(entries["name"], f"'name' of {where}", lambda name: check_part_name(name, "step")),
        task=_task(entries["task"], where),
        target=check_text(target, f"'target' of {where}", check_target) if target else None,
        depends_on=_dependencies(entries, "step", where),
        description=_description(entries, where),
        on_worker_lost=on_worker_lost,
        lost_timeout=_seconds(entries, "lostTimeout", where, minimum=0, default=LOST_TIMEOUT),
        queue_timeout=_seconds(entries, "queueTimeout", where, minimum=1, default=None),
        line=node.line,
    )


def _on_worker_lost(node: Node, where: str) -> OnWorkerLost:
    text = node.text(f"'onWorkerLost' of {where}")
    for policy in ON_WORKER_LOST:
        if text == policy:
            return policy
    raise node.fail(
        f"'onWorkerLost' of {where} is '{text}'{did_you_mean(text, ON_WORKER_LOST)}",
        "write fail, or retry if the step may safely run twice",
    )


S = TypeVar("S", int, int | None)


def _seconds(entries: dict[str, Node], key: str, where: str, *, minimum: int, default: S) -> int | S:
    node = entries.get(key)
    return node.whole(f"'{key}' of {where} (seconds)", minimum=minimum) if node else default


def _task(node: Node, where: str) -> Task:
    place = f"'task' of {where}"
    entries = check_keys(node, TASK_KEYS, place, required=("type", "modelIdOrName", "methodName"))
    refuse_expressions(entries, but="inputs")
    kind = entries["type"].text(f"'type' in {place}")
    if kind != TASK_TYPE:
        raise entries["type"].fail(f"{place} has the type '{kind}'", f"the one type of task is {TASK_TYPE}")
    inputs = entries.get("inputs")
    if inputs is not None:
        check_expressions(inputs)
    return Task(
        model=check_text(entries["modelIdOrName"], f"'modelIdOrName' in {place}", check_not_empty),
        method=check_text(entries["methodName"], f"'methodName' in {place}", check_not_empty),
        inputs=inputs.plain_entries(f"'inputs' in {place}") if inputs else {},
    )


def _dependencies(entries: dict[str, Node], what: str, where: str) -> tuple[Dependency, ...]:
    if "dependsOn" not in entries:
        return ()
    return tuple(_dependency(node, what, where) for node in entries["dependsOn"].items(f"'dependsOn' of {where}"))


def _dependency(node: Node, what: str, where: str) -> Dependency:
    place = f"'dependsOn' of {where}"
    if isinstance(node.value, str):
        raise node.fail(
            f"{place} must say what '{node.value}' is",
            f"write it as:  - {what}: {node.value}   (and, if you like, below it)   condition: succeeded",
        )
    entries = check_keys(node, (what, "condition"), place, required=(what,))
    condition: Condition = "succeeded"
    if "condition" in entries:
        condition = _condition(entries["condition"], place)
    return Dependency(entries[what].text(f"'{what}' in {place}"), condition, node.line)


def _condition(node: Node, place: str) -> Condition:
    text = node.text(f"'condition' in {place}")
    for condition in CONDITIONS:
        if text == condition:
            return condition
    raise node.fail(
        f"unknown condition '{text}' in {place}{did_you_mean(text, CONDITIONS)}",
        f"conditions: {', '.join(CONDITIONS)}",
    )


def _concurrency(entries: dict[str, Node], where: str) -> int | None:
    node = entries.get("concurrency")
    return node.whole(f"'concurrency' of {where}", minimum=1) if node else None


def _description(entries: dict[str, Node], where: str) -> str:
    node = entries.get("description")
    return node.text(f"'description' of {where}") if node else ""


def _where(node: Node, what: str, number: int) -> str:
    """How errors call a part: by its name if it has one, else by its place."""
    name = node.value.get("name") if isinstance(node.value, dict) else None
    return f"{what} '{name.value}'" if name is not None and isinstance(name.value, str) else f"{what} number {number}"
