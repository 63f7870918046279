"""`swamp workflow create/get/delete/validate`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from swamp.cli.main import run
from swamp.repo import Repo
from swamp.workflows.catalog import find_workflow

Capture = pytest.CaptureFixture[str]
OTHER_ID = "0b54c9b6-3a0c-4b53-9d2f-52f5a0c2a111"
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


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Repo:
    """A repository with the model `remote-echo`, and the tutorial's YAML in `given.yaml`."""
    assert run(["repo", "init", str(tmp_path)]) == 0
    monkeypatch.chdir(tmp_path)
    assert run(["model", "create", "command/shell", "remote-echo", "--arg", "execute.run=echo hello"]) == 0
    (tmp_path / "given.yaml").write_text(TUTORIAL)
    capsys.readouterr()
    return Repo(tmp_path)


def stored(repo: Repo) -> list[str]:
    return sorted(path.name for path in repo.workflows.iterdir())


def test_the_workflow_of_the_tutorial_is_stored_as_printed_but_for_its_id(repo: Repo, capsys: Capture) -> None:
    assert run(["workflow", "create", "remote-demo", "--file", "given.yaml"]) == 0
    assert capsys.readouterr() == ("Created: remote-demo\nPath: workflows/remote-demo.yaml\n", "")
    workflow = find_workflow(repo, "remote-demo")
    assert (repo.workflows / "remote-demo.yaml").read_text() == TUTORIAL.replace("<generated-uuid>", workflow.id)
    assert find_workflow(repo, workflow.id) == workflow


def test_a_workflow_comes_from_stdin(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TUTORIAL.encode())))
    assert run(["workflow", "create", "remote-demo", "--file", "-"]) == 0
    assert stored(repo) == ["remote-demo.yaml"]


@pytest.mark.parametrize(
    "text",
    [
        TUTORIAL.replace("id: <generated-uuid>\n", ""),
        "---\n# what it is for\n" + TUTORIAL.replace("id: <generated-uuid>\n", "") + "...\n",
        TUTORIAL.replace("<generated-uuid>", "'<generated-uuid>'"),
        TUTORIAL.replace("<generated-uuid>", "\n  <generated-uuid>"),
        TUTORIAL.replace("\n", "\r\n"),
        "\ufeff" + TUTORIAL,
        TUTORIAL.replace("Run a", "Run <generated-uuid>, a"),
        '{"name": "remote-demo", "description": "Run a step on a remote worker", "jobs": [{"name": "build", "steps": '
        '[{"name": "echo-on-worker", "target": "build-node", "task": {"type": "model_method", "modelIdOrName": '
        '"remote-echo", "methodName": "execute"}}]}]}',
    ],
)
def test_an_id_is_made_however_the_file_is_written(repo: Repo, text: str) -> None:
    Path("given.yaml").write_bytes(text.encode())
    assert run(["workflow", "create", "remote-demo", "--file", "given.yaml"]) == 0
    assert find_workflow(repo, "remote-demo").jobs[0].steps[0].target == "build-node"


def test_comments_stay(repo: Repo) -> None:
    Path("given.yaml").write_text("# for the tutorial\n" + TUTORIAL.replace("id: <generated-uuid>\n", ""))
    assert run(["workflow", "create", "remote-demo", "--file", "given.yaml"]) == 0
    assert (repo.workflows / "remote-demo.yaml").read_text().startswith("# for the tutorial\nid: ")


def test_a_scaffold_is_valid_when_a_model_of_its_name_exists(repo: Repo, capsys: Capture) -> None:
    assert run(["workflow", "create", "remote-echo"]) == 0
    assert capsys.readouterr().err == ""
    assert run(["workflow", "validate", "remote-echo"]) == 0


def test_a_workflow_may_be_stored_before_its_model_and_says_so(repo: Repo, capsys: Capture) -> None:
    assert run(["workflow", "create", "later"]) == 0
    assert capsys.readouterr().err == (
        "Before it can run: workflows/later.yaml:12: step 'first': there is no model 'later'\n"
        "  models: remote-echo\n"
        "  create it with: swamp model create <type> later\n"
    )
    assert run(["workflow", "validate", "later"]) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: remote-demo", "name: other", "given.yaml holds the workflow 'other', not 'remote-demo'"),
        ("target:", "tagret:", "given.yaml:8: unknown key 'tagret' in step 'echo-on-worker'; did you mean 'target'?"),
        (
            "methodName: execute",
            "methodName: exec",
            "given.yaml:7: step 'echo-on-worker': type command/shell has no method 'exec'; did you mean 'execute'?",
        ),
        (
            "methodName: execute",
            "methodName: execute\n          inputs: {rum: x}",
            "given.yaml:7: step 'echo-on-worker': model 'remote-echo': command/shell execute: "
            "unknown argument 'rum' (did you mean 'run'?)",
        ),
    ],
)
def test_a_refused_workflow_says_why_and_is_not_stored(
    repo: Repo, capsys: Capture, old: str, new: str, message: str
) -> None:
    Path("given.yaml").write_text(TUTORIAL.replace(old, new))
    assert run(["workflow", "create", "remote-demo", "--file", "given.yaml"]) in (1, 3)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[0] == f"Error: {message}"
    assert stored(repo) == []


def test_a_file_that_is_not_there_is_not_found(repo: Repo, capsys: Capture) -> None:
    assert run(["workflow", "create", "remote-demo", "--file", "nowhere.yaml"]) == 3
    assert capsys.readouterr().err == "Error: there is no file nowhere.yaml\n  name a YAML file, or - for stdin\n"
    assert run(["workflow", "create", "remote-demo", "--file", "."]) == 1
    assert run(["workflow", "create", "../evil"]) == 2
    assert stored(repo) == []


def test_a_taken_name_or_id_is_refused_and_the_first_kept(repo: Repo, capsys: Capture) -> None:
    Path("given.yaml").write_text(TUTORIAL.replace("<generated-uuid>", OTHER_ID))
    assert run(["workflow", "create", "remote-demo", "--file", "given.yaml"]) == 0
    before = (repo.workflows / "remote-demo.yaml").read_bytes()
    capsys.readouterr()
    assert run(["workflow", "create", "remote-demo"]) == 1
    assert capsys.readouterr().err == (
        "Error: a workflow 'remote-demo' already exists: workflows/remote-demo.yaml\n"
        "  edit the file, or remove it with: swamp workflow delete remote-demo\n"
    )
    Path("given.yaml").write_text(TUTORIAL.replace("<generated-uuid>", OTHER_ID).replace("remote-demo", "copy"))
    assert run(["workflow", "create", "copy", "--file", "given.yaml"]) == 1
    assert capsys.readouterr().err == (
        f"Error: the id {OTHER_ID} already belongs to workflows/remote-demo.yaml\n"
        "  leave the id line out; swamp then makes an id\n"
    )
    assert (repo.workflows / "remote-demo.yaml").read_bytes() == before
    assert stored(repo) == ["remote-demo.yaml"]


def test_get_shows_the_file_as_it_stands_or_as_json(repo: Repo, capsys: Capture) -> None:
    assert run(["workflow", "create", "remote-demo", "--file", "given.yaml"]) == 0
    capsys.readouterr()
    assert run(["workflow", "get", "remote-demo"]) == 0
    assert capsys.readouterr().out == (repo.workflows / "remote-demo.yaml").read_text()
    assert run(["workflow", "get", "remote-demo", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["path"] == "workflows/remote-demo.yaml"
    assert document["jobs"][0]["steps"][0]["target"] == "build-node"


def test_delete_asks_and_y_agrees(repo: Repo, capsys: Capture) -> None:
    assert run(["workflow", "create", "remote-echo"]) == 0
    assert run(["workflow", "delete", "remote-echo"]) == 2
    assert stored(repo) == ["remote-echo.yaml"]
    capsys.readouterr()
    assert run(["workflow", "delete", "remote-echo", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "name": "remote-echo",
        "path": "workflows/remote-echo.yaml",
        "deleted": True,
    }
    assert stored(repo) == []
    assert run(["workflow", "delete", "remote-echo", "--yes"]) == 3


def test_validate_shows_each_check(repo: Repo, capsys: Capture) -> None:
    assert run(["workflow", "create", "remote-demo", "--file", "given.yaml"]) == 0
    capsys.readouterr()
    assert run(["workflow", "validate"]) == 0
    assert capsys.readouterr().out == (
        "remote-demo  workflows/remote-demo.yaml\n"
        "  ✓ File\n"
        "  ✓ Unique job names\n"
        "  ✓ Unique step names in job 'build'\n"
        "  ✓ Valid job dependencies\n"
        "  ✓ Valid step dependencies in job 'build'\n"
        "  ✓ No cyclic job dependencies\n"
        "  ✓ No cyclic step dependencies in job 'build'\n"
        "  ✓ Step 'echo-on-worker' in job 'build' (remote-echo.execute)\n"
        "1 of 1 workflows passed\n"
    )


def test_validate_shows_every_failed_check_of_a_file(repo: Repo, capsys: Capture) -> None:
    assert run(["workflow", "create", "remote-demo", "--file", "given.yaml"]) == 0
    path = repo.workflows / "remote-demo.yaml"
    cyclic = path.read_text().replace("    steps:", "    dependsOn:\n      - job: build\n    steps:")
    path.write_text(cyclic.replace("remote-echo", "remote-ech"))
    capsys.readouterr()
    assert run(["workflow", "validate", "remote-demo", "--json"]) == 1
    shown = capsys.readouterr()
    failed = [check for check in json.loads(shown.out)["validations"] if not check["passed"]]
    assert [(check["name"], check["error"]) for check in failed] == [
        ("No cyclic job dependencies", "workflows/remote-demo.yaml:7: cyclic dependency: build -> build"),
        (
            "Step 'echo-on-worker' in job 'build' (remote-ech.execute)",
            "workflows/remote-demo.yaml:9: step 'echo-on-worker': there is no model 'remote-ech'; "
            "did you mean 'remote-echo'?",
        ),
    ]
    assert json.loads(shown.err)["code"] == "validation_failed"


def test_a_renamed_file_is_refused_with_both_ways_out(repo: Repo, capsys: Capture) -> None:
    assert run(["workflow", "create", "remote-echo"]) == 0
    (repo.workflows / "remote-echo.yaml").rename(repo.workflows / "new.yaml")
    capsys.readouterr()
    assert run(["workflow", "validate", "new"]) == 1
    assert "workflows/new.yaml holds the workflow 'remote-echo'" in capsys.readouterr().out
