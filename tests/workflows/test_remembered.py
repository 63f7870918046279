"""A plan that was made before is found again, unless anything that it was made of has changed."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from swamp.errors import SwampError
from swamp.repo import Repo
from swamp.vaults.catalog import create_vault, open_vault
from swamp.workflows import remembered
from swamp.workflows.local import plan_of_workflow
from swamp.workflows.remembered import RememberedPlans

WORKFLOW = """\
id: 11111111-1111-4111-8111-111111111111
name: greet
jobs:
  - name: job
    steps:
      - name: one
        task: {type: model_method, modelIdOrName: hello, methodName: execute}
      - name: two
        task: {type: model_method, modelIdOrName: again, methodName: execute}
version: 1
"""


def model(name: str, run: str = "echo hello", kind: str = "command/shell") -> str:
    number = f"{sum(map(ord, name + kind)):012d}"
    return f"""\
type: {kind}
id: 22222222-2222-4222-8222-{number}
name: {name}
version: 1
methods: {{execute: {{arguments: {{run: "{run}"}}}}}}
"""


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path)
    place = repo.models / "command/shell"
    place.mkdir(parents=True)
    for name in ("hello", "again"):
        (place / f"{name}.yaml").write_text(model(name))
    (place / "other.yaml").write_text(model("other"))
    repo.workflows.mkdir(exist_ok=True)
    (repo.workflows / "greet.yaml").write_text(WORKFLOW)
    return repo


def later() -> int:
    """As if everything had rested for a while."""
    return time.time_ns() + 2 * remembered.COARSE_TICK


def learnt(repo: Repo, clock: Callable[[], int] = later) -> RememberedPlans:
    plans = RememberedPlans(repo, clock)
    assert plans.find("greet") is None
    assert plans.make("greet") == plan_of_workflow(repo, "greet")
    return plans


def test_what_has_not_changed_is_not_read_again(repo: Repo) -> None:
    plans = learnt(repo)
    found = plans.find("greet")
    assert found is not None
    assert found is plans.find("greet")
    assert found == plan_of_workflow(repo, "greet")
    assert plans.find("other") is None


def shell(repo: Repo) -> Path:
    return repo.models / "command/shell"


CHANGES: dict[str, Callable[[Repo], object]] = {
    "the workflow": lambda repo: (repo.workflows / "greet.yaml").write_text(WORKFLOW.replace("two", "three")),
    "a model": lambda repo: (shell(repo) / "again.yaml").write_text(model("again", "echo bye00")),
    "a model, keeping its size and its time": lambda repo: _forge(shell(repo) / "again.yaml", "hello", "hallo"),
    "a model, by another file in its place": lambda repo: _replace(shell(repo) / "again.yaml"),
    "a model that is gone": lambda repo: (shell(repo) / "hello.yaml").unlink(),
    "a workflow that is gone": lambda repo: (repo.workflows / "greet.yaml").unlink(),
    "a second model of that name": lambda repo: _second(repo.models / "swamp/probe"),
    "the models that are gone": lambda repo: shutil.rmtree(repo.models),
}


def _forge(path: Path, old: str, new: str) -> None:
    found = path.stat()
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _replace(path: Path) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(path.read_text().replace("hello", "hallo"))
    beside.rename(path)


def _second(place: Path) -> None:
    place.mkdir(parents=True)
    (place / "hello.yaml").write_text(model("hello", kind="swamp/probe"))


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_changes_is_read_again(repo: Repo, what: str) -> None:
    plans = learnt(repo)
    before = plans.find("greet")
    CHANGES[what](repo)
    assert plans.find("greet") is None
    try:
        expected = plan_of_workflow(repo, "greet")
    except SwampError as error:
        with pytest.raises(type(error)):
            plans.make("greet")
        assert plans.find("greet") is None
    else:
        assert plans.make("greet") == expected != before
        assert plans.find("greet") == expected


def test_a_file_elsewhere_is_nobodys_business(repo: Repo) -> None:
    plans = learnt(repo)
    (shell(repo) / "other.yaml").write_text("broken: [")
    (repo.workflows / "broken.yaml").write_text("broken: [")
    assert plans.find("greet") is not None


def test_what_changed_just_now_may_change_again_unseen(repo: Repo) -> None:
    paths = [repo.workflows / "greet.yaml", repo.models, *repo.models.rglob("*")]
    changed = max(path.stat().st_ctime_ns for path in paths)
    assert learnt(repo, lambda: changed + remembered.TICK // 2).find("greet") is None
    assert learnt(repo, lambda: changed + remembered.TICK + 1).find("greet") is not None
    # A file system that seems to know whole seconds only tells less.
    second = (changed // 10**9 + 60) * 10**9
    for path in paths:
        os.utime(path, ns=(second, second))
    assert learnt(repo, lambda: second + remembered.COARSE_TICK // 2).find("greet") is None
    assert learnt(repo, lambda: second + remembered.COARSE_TICK + 1).find("greet") is not None


def test_a_plan_with_secrets_looks_for_them_each_time(repo: Repo) -> None:
    """A vault may lose one without any file of the plan being changed."""
    create_vault(repo, "local_encryption", "store", uuid.UUID(int=4), datetime.now(UTC))
    vault = open_vault(repo, "store")
    vault.put("key", "secret")
    (shell(repo) / "again.yaml").write_text(model("again", "echo ${{ vault.get('store', 'key') }}"))
    plans = RememberedPlans(repo, later)
    assert plans.make("greet").workflow_name == "greet"
    assert plans.find("greet") is None
    vault.delete("key")
    with pytest.raises(SwampError, match="store"):
        plans.make("greet")


def test_by_its_id_a_workflow_is_looked_for_each_time(repo: Repo) -> None:
    """The id may come to stand in a second file."""
    plans = RememberedPlans(repo, later)
    name = "11111111-1111-4111-8111-111111111111"
    assert plans.make(name).workflow_name == "greet"
    assert plans.find(name) is None


def test_no_more_is_kept_than_the_newest(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST", 2)
    plans = RememberedPlans(repo, later)
    for name in ("one", "two", "three"):
        (repo.workflows / f"{name}.yaml").write_text(WORKFLOW.replace("greet", name))
        plans.make(name)
    assert [plans.find(name) is not None for name in ("one", "two", "three")] == [False, True, True]
