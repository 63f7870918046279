"""`swamp model create/get/delete/validate` and `swamp model type search/describe`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swamp.cli.main import run
from swamp.repo import Repo

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    assert run(["repo", "init", str(tmp_path)]) == 0
    monkeypatch.chdir(tmp_path)
    return Repo(tmp_path)


@pytest.fixture
def echo(repo: Repo, capsys: Capture) -> Path:
    """A stored model, `remote-echo`."""
    assert run(["model", "create", "command/shell", "remote-echo", "--arg", "execute.run=echo hello"]) == 0
    capsys.readouterr()
    return repo.models / "command/shell/remote-echo.yaml"


def test_create_stores_a_model_with_its_arguments(repo: Repo, capsys: Capture) -> None:
    capsys.readouterr()
    words = ["model", "create", "command/shell", "remote-echo", "--arg", "execute.run=echo 'executed on a worker'"]
    assert run([*words, "--arg", "execute.timeout=500", "--arg", "execute.env.A=1"]) == 0
    assert capsys.readouterr() == (
        "Created: remote-echo (command/shell)\nPath: models/command/shell/remote-echo.yaml\n",
        "",
    )
    assert run(["model", "get", "remote-echo", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["type", "id", "name", "version", "tags", "globalArguments", "methods", "path"]
    arguments = {"run": "echo 'executed on a worker'", "timeout": 500, "env": {"A": "1"}}
    assert document["methods"] == {"execute": {"arguments": arguments}}


def test_create_says_which_arguments_are_still_needed(repo: Repo, capsys: Capture) -> None:
    capsys.readouterr()
    assert run(["model", "create", "command/shell", "later"]) == 0
    assert capsys.readouterr().err == (
        "Method execute still needs run: add it under methods.execute.arguments in models/command/shell/later.yaml\n"
    )


def test_create_answers_in_json(repo: Repo, capsys: Capture) -> None:
    capsys.readouterr()
    assert run(["model", "create", "command/shell", "a", "--arg", "execute.run=x", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["name"], document["path"]) == ("a", "models/command/shell/a.yaml")


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (
            ["command/shel", "a"],
            3,
            "Error: there is no model type 'command/shel'; did you mean 'command/shell'?\n"
            "  list them with: swamp model type search\n",
        ),
        (
            ["command/shell", "Big Name"],
            2,
            "Error: 'Big Name' cannot be the name of a model\n"
            "  use lower-case letters, digits, '-' and '_', beginning with a letter or digit, at most 64\n",
        ),
        (
            ["command/shell", "a", "--arg", "execute.rum=x"],
            1,
            "Error: command/shell execute: unknown argument 'rum'; did you mean 'run'?\n"
            "  its arguments: run, workingDir, timeout, env, ignoreExitCode\n",
        ),
        (
            ["command/shell", "a", "--arg", "exec.run=x"],
            3,
            "Error: type command/shell has no method 'exec'; did you mean 'execute'?\n  its methods: execute\n",
        ),
        (
            ["command/shell", "a", "--arg", "run=a.b"],
            2,
            "Error: 'run=a.b' names no method\n  write --arg execute.run=a.b\n",
        ),
        (
            ["command/shell", "a", "--arg", "execute.timeout=soon"],
            1,
            "Error: argument 'timeout' must be a whole number\n  for example: timeout=500\n",
        ),
        (
            ["command/shell", "a", "--arg", "execute.run"],
            1,
            "Error: 'run' gives no value\n  write run=<value>\n",
        ),
    ],
)
def test_a_refused_create_says_why_and_stores_nothing(
    repo: Repo, capsys: Capture, words: list[str], status: int, error: str
) -> None:
    capsys.readouterr()
    assert run(["model", "create", *words]) == status
    assert capsys.readouterr() == ("", error)
    assert list(repo.models.rglob("*")) == []


def test_a_second_model_of_a_name_is_refused_and_the_first_kept(echo: Path, capsys: Capture) -> None:
    before = echo.read_bytes()
    assert run(["model", "create", "command/shell", "remote-echo", "--arg", "execute.run=other"]) == 1
    assert capsys.readouterr().err == (
        "Error: a model 'remote-echo' already exists: models/command/shell/remote-echo.yaml\n"
        "  choose another name, or remove it with: swamp model delete remote-echo\n"
    )
    assert echo.read_bytes() == before


def test_get_shows_the_file_as_it_stands(echo: Path, capsys: Capture) -> None:
    echo.write_text("# mine\n" + echo.read_text())
    assert run(["model", "get", "remote-echo"]) == 0
    assert capsys.readouterr().out == echo.read_text()


def test_an_unknown_model_is_not_found(echo: Path, capsys: Capture) -> None:
    for command in ("get", "delete", "validate"):
        assert run(["model", command, "remote-ech"]) == 3
        assert "there is no model 'remote-ech'; did you mean 'remote-echo'?" in capsys.readouterr().err


def test_delete_asks_and_y_agrees(echo: Path, capsys: Capture) -> None:
    assert run(["model", "delete", "remote-echo"]) == 2
    assert "-y agrees" in capsys.readouterr().err
    assert echo.exists()
    assert run(["model", "delete", "remote-echo", "-y"]) == 0
    assert capsys.readouterr().out == "Deleted model: remote-echo\n"
    assert not echo.exists()


def test_validate_shows_each_check(echo: Path, capsys: Capture) -> None:
    assert run(["model", "validate", "remote-echo"]) == 0
    assert capsys.readouterr().out == (
        "remote-echo  models/command/shell/remote-echo.yaml\n"
        "  ✓ File\n"
        "  ✓ Known type\n"
        "  ✓ Global arguments\n"
        "  ✓ Arguments of execute\n"
        "1 of 1 models passed\n"
    )


def test_validate_exits_1_when_a_check_fails_and_looks_at_all_models(echo: Path, capsys: Capture) -> None:
    (echo.parent / "broken.yaml").write_text("type: command/shell\nidd: x\n")
    echo.write_text(echo.read_text().replace("run:", "rum:"))
    assert run(["model", "validate"]) == 1
    shown = capsys.readouterr()
    assert shown.out == (
        "broken  models/command/shell/broken.yaml\n"
        "  ✗ File\n"
        "    models/command/shell/broken.yaml:2: unknown key 'idd' in the model; did you mean 'id'?\n"
        "    valid keys: type, id, name, version, tags, globalArguments, methods\n"
        "remote-echo  models/command/shell/remote-echo.yaml\n"
        "  ✓ File\n"
        "  ✓ Known type\n"
        "  ✓ Global arguments\n"
        "  ✗ Arguments of execute\n"
        "    command/shell execute: unknown argument 'rum' (did you mean 'run'?)\n"
        "    see: swamp model type describe command/shell\n"
        "0 of 2 models passed\n"
    )
    assert shown.err == "Error: validation failed: models 'broken', 'remote-echo'\n"


def test_validate_answers_in_json(echo: Path, capsys: Capture) -> None:
    assert run(["model", "validate", "--json"]) == 0
    everything = json.loads(capsys.readouterr().out)
    assert everything["passed"] is True
    assert run(["model", "validate", "remote-echo", "--json"]) == 0
    assert everything["models"] == [json.loads(capsys.readouterr().out)]
    assert everything["models"][0]["validations"][0] == {"name": "File", "passed": True}


def test_validate_of_nothing_passes(repo: Repo, capsys: Capture) -> None:
    capsys.readouterr()
    assert run(["model", "validate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"models": [], "passed": True}
    assert run(["model", "validate"]) == 0
    assert capsys.readouterr().out == "0 of 0 models passed\n"


def test_types_are_listed_and_searched_outside_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["model", "type", "search", "SHELL", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [result["name"] for result in document["results"]] == ["command/shell"]
    assert run(["model", "type", "search", "nothing-like-it"]) == 0
    assert capsys.readouterr() == ("", "No model type matches 'nothing-like-it'.\n")


def test_a_type_describes_its_methods_arguments_and_outputs(capsys: Capture) -> None:
    assert run(["model", "type", "describe", "command/shell"]) == 0
    shown = capsys.readouterr().out
    for word in (
        "execute",
        "run",
        "string, required",
        "workingDir",
        "timeout",
        "env",
        "ignoreExitCode",
        "result",
        "log",
    ):
        assert word in shown
    assert run(["model", "type", "describe", "command/shell", "--json"]) == 0
    method = json.loads(capsys.readouterr().out)["methods"][0]
    assert [output["name"] for output in method["outputs"]] == ["result", "log"]
    assert method["arguments"][0] == {
        "name": "run",
        "kind": "string",
        "required": True,
        "description": "The command, as sh reads it.",
        "minimum": 1,
    }
