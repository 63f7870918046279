"""A workflow's YAML is read as it is printed in the tutorial, and whatever is wrong with it is named with its line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swamp import yamlfile
from swamp.errors import Invalid
from swamp.workflows.parsing import parse_workflow
from swamp.workflows.workflow import CONDITIONS, Dependency, Job, Step, Task, Workflow, document

ID = "0b54c9b6-3a0c-4b53-9d2f-52f5a0c2a111"
TUTORIAL = """\
id: <generated-uuid>
name: remote-demo
description: Run a step on a remote worker
jobs:
  - name: build
    steps:
      - name: echo-on-worker
        target: build-node
        task:
          type: model_method
          modelIdOrName: remote-echo
          methodName: execute
version: 1
"""


def workflow(jobs: str) -> str:
    return f"id: {ID}\nname: demo\njobs:\n{jobs}"


def job(name: str = "a", *, extra: str = "", steps: str = "") -> str:
    return f"  - name: {name}\n{extra}    steps:\n{steps or step()}"


def step(name: str = "s", extra: str = "") -> str:
    task = "{type: model_method, modelIdOrName: m, methodName: execute}"
    return f"      - name: {name}\n{extra}        task: {task}\n"


def refusal(text: str) -> Invalid:
    with pytest.raises(Invalid) as refused:
        parse_workflow(text, "workflows/demo.yaml")
    return refused.value


def test_the_workflow_of_the_tutorial_is_read_as_printed() -> None:
    step = Step("echo-on-worker", Task("remote-echo", "execute", {}), "build-node")
    expected = Workflow(
        ID, "remote-demo", "Run a step on a remote worker", 1, {}, None, (Job("build", (step,)),), "stdin"
    )
    assert parse_workflow(TUTORIAL, "stdin", new_id=ID) == expected


def test_an_id_of_its_own_is_kept_and_a_missing_one_filled_in() -> None:
    other = "11111111-3a0c-4b53-9d2f-52f5a0c2a111"
    assert parse_workflow(workflow(job()), "x", new_id=other).id == ID
    assert parse_workflow(workflow(job()).replace(f"id: {ID}\n", ""), "x", new_id=other).id == other


def test_a_stored_workflow_needs_an_id() -> None:
    assert refusal(workflow(job()).replace(f"id: {ID}\n", "")).message.endswith("the workflow has no 'id'")
    assert refusal(TUTORIAL).message == "workflows/demo.yaml:1: '<generated-uuid>' is no id"


def test_dependencies_have_a_condition_which_is_succeeded_by_default() -> None:
    steps = step() + step("t", "        dependsOn:\n          - step: s\n          - {step: u, condition: failed}\n")
    jobs = parse_workflow(
        workflow(job(steps=steps + step("u")) + job("b", extra="    dependsOn: [{job: a, condition: always}]\n")), "x"
    ).jobs
    assert jobs[0].steps[1].depends_on == (Dependency("s", "succeeded"), Dependency("u", "failed"))
    assert jobs[1].depends_on == (Dependency("a", "always"),)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            workflow(job(steps=step(extra="        lables: {}\n        descripton: x\n"))),
            "workflows/demo.yaml:7: unknown key 'lables' in step 's'",
            "valid keys: name, description, target, dependsOn, task, onWorkerLost, lostTimeout, queueTimeout",
        ),
        (
            workflow(job(steps=step(extra="        targett: x\n"))),
            "workflows/demo.yaml:7: unknown key 'targett' in step 's'; did you mean 'target'?",
            "valid keys: name, description, target, dependsOn, task, onWorkerLost, lostTimeout, queueTimeout",
        ),
        (
            workflow(job(extra="    dependsOn: [b]\n") + job("b")),
            "workflows/demo.yaml:5: 'dependsOn' of job 'a' must say what 'b' is",
            "write it as:  - job: b   (and, if you like, below it)   condition: succeeded",
        ),
        (
            workflow(job(extra="    dependsOn:\n      - job: bb\n") + job("b")),
            "workflows/demo.yaml:6: job 'a' depends on job 'bb', which does not exist; did you mean 'b'?",
            "jobs there: a, b",
        ),
        (
            workflow(job(steps=step(extra="        dependsOn: [{step: t}]\n")) + job("b", steps=step("t"))),
            "workflows/demo.yaml:7: step 's' depends on step 't', which does not exist",
            "it is a step of job 'b': let the jobs depend on each other instead",
        ),
        (
            workflow(job(extra="    dependsOn: [{job: b}, {job: b}]\n") + job("b")),
            "workflows/demo.yaml:5: job 'a' depends on job 'b' twice",
            "keep one of the two",
        ),
        (
            workflow(job(extra="    dependsOn: [{job: b, condition: suceeded}]\n") + job("b")),
            "workflows/demo.yaml:5: unknown condition 'suceeded' in 'dependsOn' of job 'a'; did you mean 'succeeded'?",
            "conditions: succeeded, failed, completed, skipped, always",
        ),
        (
            workflow(job() + job()),
            "workflows/demo.yaml:8: a second job is called 'a'",
            "the first one stands in line 4; rename one of them",
        ),
        (
            workflow(job(steps=step() + step())),
            "workflows/demo.yaml:8: a second step is called 's'",
            "the first one stands in line 6; rename one of them",
        ),
        (
            workflow(job(extra="    dependsOn: [{job: b}]\n") + job("b", extra="    dependsOn:\n      - job: a\n")),
            "workflows/demo.yaml:5: cyclic dependency: a -> b -> a",
            "each of them waits for the next; remove one of these dependencies",
        ),
        (
            workflow(job(steps=step(extra="        dependsOn: [{step: s}]\n"))),
            "workflows/demo.yaml:7: cyclic dependency: s -> s",
            "each of them waits for the next; remove one of these dependencies",
        ),
        (
            workflow(job(extra="    concurrency: 0\n")),
            "workflows/demo.yaml:5: 'concurrency' of job 'a' must be 1 or more, not 0",
            None,
        ),
        (
            workflow(job(steps=step(extra="        target: Build_Node\n"))),
            "workflows/demo.yaml:7: 'Build_Node' cannot be the name of a target",
            "use lower-case letters and digits, in parts joined by single '-', at most 63",
        ),
        (
            workflow(job(steps=step(extra="        target:\n"))),
            "workflows/demo.yaml:7: 'target' of step 's' has no value; it must be text",
            "give it one, or remove the line",
        ),
        (
            workflow(job(steps=step(extra="        description: for ${{ inputs.x }}\n"))),
            "workflows/demo.yaml:7: expressions (${{ … }}) are not evaluated here",
            "they may stand in the arguments of a model's methods and in the inputs of a step",
        ),
        (
            workflow(job(steps="      - name: s\n        task: {type: shell, modelIdOrName: m, methodName: e}\n")),
            "workflows/demo.yaml:7: 'task' of step 's' has the type 'shell'",
            "the one type of task is model_method",
        ),
        (
            workflow("  []\n"),
            "workflows/demo.yaml:4: the workflow has no jobs",
            "list at least one job with at least one step",
        ),
        (
            workflow("  - steps: []\n"),
            "workflows/demo.yaml:4: job number 1 has no 'name'",
            "add a line: name: …",
        ),
        (
            workflow(job()).replace("demo", "../demo"),
            "workflows/demo.yaml:2: '../demo' cannot be the name of a workflow",
            "use lower-case letters, digits, '-' and '_', beginning with a letter or digit, at most 64",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_a_way_out(text: str, message: str, hint: str | None) -> None:
    error = refusal(text)
    assert (error.message, error.hint) == (message, hint)


PART = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda text: "${{" not in text)
TARGET = st.none() | st.from_regex(r"[a-z0-9]{1,4}(-[a-z0-9]{1,4}){0,2}", fullmatch=True)
TASK = st.builds(
    Task,
    PLAIN.filter(str.strip),
    PLAIN.filter(str.strip),
    st.dictionaries(PLAIN.filter("<<".__ne__), PLAIN | st.booleans() | st.integers(-99, 99)),
)


@st.composite
def depending(draw: st.DrawFn, names: list[str], place: int) -> tuple[Dependency, ...]:
    """Dependencies on names that come earlier: never cyclic."""
    earlier = draw(st.lists(st.sampled_from(names[:place]), unique=True, max_size=3)) if place else []
    return tuple(Dependency(name, draw(st.sampled_from(CONDITIONS))) for name in earlier)


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    jobs = []
    job_names = draw(st.lists(PART, min_size=1, max_size=3, unique=True))
    limit = st.none() | st.integers(1, 99)
    for place, name in enumerate(job_names):
        step_names = draw(st.lists(PART, min_size=1, max_size=3, unique=True))
        steps = tuple(
            Step(step_name, draw(TASK), draw(TARGET), draw(depending(step_names, number)), draw(PLAIN))
            for number, step_name in enumerate(step_names)
        )
        jobs.append(Job(name, steps, draw(depending(job_names, place)), draw(limit), draw(PLAIN)))
    name = draw(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True))
    tags = draw(st.dictionaries(PLAIN.filter("<<".__ne__), PLAIN, max_size=2))
    return Workflow(ID, name, draw(PLAIN), draw(st.integers(1, 9)), tags, draw(limit), tuple(jobs))


@given(workflows())
def test_a_workflow_that_is_written_is_read_back(workflow: Workflow) -> None:
    assert parse_workflow(yamlfile.dump(document(workflow)), "x") == workflow


def test_a_workflow_may_be_json() -> None:
    workflow = parse_workflow(TUTORIAL, "x", new_id=ID)
    assert parse_workflow(json.dumps(document(workflow), indent=2), "x") == workflow
