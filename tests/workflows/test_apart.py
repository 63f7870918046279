"""A plan made in a process of its own is the plan that would have been made here."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from swamp.errors import Invalid
from swamp.repo import Repo
from swamp.workflows import apart
from swamp.workflows.apart import BIG, plan_apart
from swamp.workflows.local import plan_of_workflow
from swamp.workflows.plan import Plan

MODEL = (
    "type: command/shell\nid: {id}\nname: hello\nversion: 1\nmethods:\n  execute:\n    arguments:\n      run: echo ü\n"
)
STEP = (
    "      - name: step-{number}\n        target: node\n"
    "        task: {{type: model_method, modelIdOrName: hello, methodName: execute}}\n"
)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path)
    model = tmp_path / "models/command/shell/hello.yaml"
    model.parent.mkdir(parents=True)
    model.write_text(MODEL.format(id=uuid.uuid4()))
    repo.workflows.mkdir(parents=True)
    return repo


def write(repo: Repo, steps: str) -> None:
    head = f"id: {uuid.uuid4()}\nname: big\nversion: 1\njobs:\n  - name: build\n    steps:\n"
    (repo.workflows / "big.yaml").write_text(head + steps)


def big() -> str:
    steps = "".join(STEP.format(number=number) for number in range(3_000))
    assert len(steps) > BIG
    return steps


def not_here(_repo: Repo, _name: str) -> Plan:
    raise AssertionError("it was read in this process")


def test_the_plan_of_a_big_workflow_is_made_elsewhere_and_is_the_same(repo: Repo, monkeypatch: pytest.MonkeyPatch):
    write(repo, big())
    here = plan_of_workflow(repo, "big")
    monkeypatch.setattr(apart, "plan_of_workflow", not_here)
    assert plan_apart(repo, "big") == here


def test_a_small_one_waits_for_no_process(repo: Repo, monkeypatch: pytest.MonkeyPatch):
    write(repo, STEP.format(number=1))
    monkeypatch.setattr("swamp.workflows.apart.subprocess.run", not_here)
    assert len(plan_apart(repo, "big").steps) == 1


def test_what_is_wrong_with_a_big_workflow_is_told_as_of_any_other(repo: Repo):
    write(repo, big() + STEP.format(number=7))
    with pytest.raises(Invalid) as here:
        plan_of_workflow(repo, "big")
    with pytest.raises(Invalid) as elsewhere:
        plan_apart(repo, "big")
    assert elsewhere.value.as_dict() == here.value.as_dict()


def test_the_process_does_not_take_its_program_from_where_it_was_started(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trap = tmp_path / "swamp"
    trap.mkdir()
    (trap / "__init__.py").write_text("open('sprung', 'w')\n")
    write(repo, big())
    monkeypatch.chdir(tmp_path)
    assert len(plan_apart(repo, "big").steps) == 3_000
    assert not (tmp_path / "sprung").exists()
