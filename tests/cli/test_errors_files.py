"""Files that are damaged, closed or gone: which one is said, and what to do about it; nothing is half-written."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from swamp.cli.main import run
from swamp.repo import Repo
from tests.processes import SWAMP, environment, run_swamp

Capture = pytest.CaptureFixture[str]
NOBODY = 65534  #: a user id without rights, for tests that root runs

WORKFLOW = """\
name: demo
jobs:
  - name: a
    steps:
      - name: s
        task: {type: model_method, modelIdOrName: echo, methodName: execute}
"""


def set_up(root: Path) -> Repo:
    """A repository with a vault, a model, a workflow and one run."""
    for typed in (
        ["repo", "init"],
        ["vault", "create", "local_encryption", "main"],
        ["model", "create", "command/shell", "echo", "--arg", "execute.run=echo hi"],
    ):
        assert run_swamp(*typed, cwd=root).code == 0
    assert run_swamp("workflow", "create", "demo", "--file", "-", cwd=root, stdin=WORKFLOW).code == 0
    assert run_swamp("workflow", "run", "demo", cwd=root).code == 0
    return Repo(root)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    set_up(root)
    return root


@pytest.fixture
def repo(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    root = tmp_path / "repo"
    shutil.copytree(prepared, root)
    monkeypatch.chdir(root)
    return Repo(root)


READERS_OF_THE_DATABASE = [
    ["worker", "token", "create", "node", "--duration", "1h"],
    ["access", "token", "create", "laptop", "--duration", "1h"],
    ["worker", "token", "list"],
    ["worker", "token", "revoke", "node"],
    ["worker", "list"],
    ["workflow", "run", "demo"],
    ["workflow", "history", "search"],
    ["workflow", "history", "get", "demo"],
    ["workflow", "history", "logs", "demo"],
    ["model", "method", "run", "echo", "execute"],
    ["data", "query", "true"],
    ["data", "get", "echo", "result"],
    ["data", "list"],
    ["data", "versions", "echo", "result"],
]


@pytest.mark.parametrize("typed", READERS_OF_THE_DATABASE, ids=" ".join)
def test_a_damaged_database_is_named_and_left_alone(typed: list[str], repo: Repo, capsys: Capture) -> None:
    for journal in repo.data.glob("swamp.db-*"):
        journal.unlink()
    repo.database.write_bytes(b"this is no database" * 1000)
    secrets = sorted(repo.secrets.rglob("*"))

    assert run(typed) == 1

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"Error: {repo.database} is not a database, or a damaged one\n  ")
    assert repo.database.read_bytes() == b"this is no database" * 1000
    assert sorted(repo.secrets.rglob("*")) == secrets


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"redisUrl": "redis://[::1"}', "\x00"])
def test_a_damaged_note_of_the_orchestrator_is_no_internal_error(content: str, repo: Repo, capsys: Capture) -> None:
    repo.serve_info.write_text(content)
    for typed in (["workflow", "run", "demo"], ["worker", "list"], ["redis", "url"]):
        assert run(typed) in (1, 5)
        error = capsys.readouterr().err
        assert "internal error" not in error
        assert "swamp serve" in error


def test_the_address_that_a_crashed_orchestrator_left_is_not_handed_out(repo: Repo, capsys: Capture) -> None:
    repo.serve_info.write_text(
        '{"url": "http://127.0.0.1:1", "secret": "x", "repoId": "x", "redisUrl": "redis://127.0.0.1:1"}'
    )
    assert run(["redis", "url"]) == 5
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "start one with: swamp serve" in shown.err


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "models/command/shell/echo.yaml is empty", "write a definition into it, or remove it"),
        (
            "type: [\n",
            "models/command/shell/echo.yaml:1: this is not YAML: did not find expected node content",
            "look at this line and the one before: indentation, brackets and quotes",
        ),
        (
            "type: command/shell\nname: echo\n",
            "models/command/shell/echo.yaml:1: the model has no 'id'",
            "add a line: id: a UUID; uuidgen prints one",
        ),
        (
            "type: command/shell\nid: 00000000-0000-4000-8000-000000000000\nnam: echo\n",
            "models/command/shell/echo.yaml:3: unknown key 'nam' in the model; did you mean 'name'?",
            "valid keys: type, id, name, version, tags, globalArguments, methods",
        ),
    ],
)
def test_a_damaged_model_is_told_alike_by_every_command_and_nothing_runs(
    text: str, message: str, hint: str, repo: Repo, capsys: Capture
) -> None:
    (repo.models / "command/shell/echo.yaml").write_text(text)
    before = repo.database.read_bytes()
    for typed in (["model", "method", "run", "echo", "execute"], ["workflow", "run", "demo"]):
        assert run(typed) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        assert message in shown.err
        assert f"  {hint}\n" in shown.err
    assert run(["model", "validate", "echo"]) == 1
    shown = capsys.readouterr()
    assert f"    {message}\n    {hint}\n" in shown.out
    assert repo.database.read_bytes() == before


def test_a_name_that_is_not_known_is_answered_with_those_that_are(repo: Repo, capsys: Capture) -> None:
    assert run(["model", "get", "ehco"]) == 3
    assert capsys.readouterr().err == (
        "Error: there is no model 'ehco'; did you mean 'echo'?\n"
        "  models: echo\n"
        "  create it with: swamp model create <type> ehco\n"
    )
    assert run(["workflow", "run", "../demo"]) == 3
    assert capsys.readouterr().err == (
        "Error: there is no workflow '../demo'; did you mean 'demo'?\n  workflows: demo\n"
    )
    assert run(["data", "get", "echo", "resul"]) == 3
    assert capsys.readouterr().err == (
        "Error: there is no data 'resul' of model 'echo'; did you mean 'result'?\n"
        "  see what there is: swamp data list echo\n"
    )
    assert run(["data", "versions", "ecko", "result"]) == 3
    assert capsys.readouterr().err.startswith("Error: there is no data of a model 'ecko'; did you mean 'echo'?\n")
    assert run(["workflow", "history", "logs", "demo", "--step", "a/t"]) == 3
    assert capsys.readouterr().err == "Error: the run has no step 'a/t'; did you mean 'a/s'?\n  steps: a/s\n"


def test_a_selection_that_no_match_has_says_so_beside_the_empty_answer(repo: Repo, capsys: Capture) -> None:
    assert run(["data", "query", 'specName == "result"', "--select", "attributes.sdtout"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "none of it has a value for attributes.sdtout" in shown.err
    assert run(["data", "query", 'specName == "nothing"', "--select", "name"]) == 0
    assert capsys.readouterr() == ("", "No data matches.\n")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["execute.run=a", "execute.run=b"], "'run' is given twice"),
        (["execute.run=a", "execute.env.A=1", "execute.env.A=2"], "'env.A' is given twice"),
    ],
)
def test_an_argument_that_is_given_twice_is_refused(typed: list[str], told: str, repo: Repo, capsys: Capture) -> None:
    options = [word for pair in typed for word in ("--arg", pair)]
    assert run(["model", "create", "command/shell", "twice", *options]) == 1
    assert capsys.readouterr() == ("", f"Error: {told}\n  give it once\n")
    assert not (repo.models / "command/shell/twice.yaml").exists()


@pytest.mark.parametrize("form", ["no-token", "node.12ab", "Node." + "0" * 64, "node." + "g" * 64])
def test_what_is_no_token_is_not_allowed_and_not_repeated(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["worker", "connect", "ws://127.0.0.1:1", "--token", form, "--cache-dir", "cache"]) == 4
    error = capsys.readouterr().err
    assert error.startswith("Error: this is not an enrollment token\n  a token is <name>.<64 hex digits>")
    assert form not in error
    assert list(tmp_path.iterdir()) == []


def test_a_token_file_that_is_not_there_is_not_found(tmp_path: Path, capsys: Capture) -> None:
    assert run(["worker", "connect", "ws://127.0.0.1:1", "--token-file", str(tmp_path / "none")]) == 3
    assert capsys.readouterr().err == (
        f"Error: there is no token file {tmp_path / 'none'}\n"
        "  mint one with: swamp worker token create <name> --duration 1h\n"
    )


def test_a_directory_that_was_removed_meanwhile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for typed in (["init"], ["model", "validate"]):
        assert run(typed) == 3
        assert capsys.readouterr().err.startswith("Error: the current directory does not exist any more\n  type: cd ")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "typed", [["vault", "put", "main", "k"], ["workflow", "create", "w", "--file", "-"]], ids=" ".join
)
def test_a_closed_stdin_is_an_empty_one(typed: list[str], repo: Repo) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&-', "sh", SWAMP, *typed],
        cwd=repo.root,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "empty" in done.stderr
    assert "internal error" not in done.stderr


@pytest.fixture(scope="module")
def foreign() -> Iterator[Path]:
    """A repository that its commands may read but not change, and look into `.swamp/` not at all."""
    root = Path(tempfile.mkdtemp(prefix="swamp-closed-"))
    set_up(root)
    if os.geteuid() == 0:
        root.chmod(0o755)
        root.joinpath("workflows/demo.yaml").chmod(0o644)
    else:
        for directory in (root, *(path for path in root.rglob("*") if path.is_dir())):
            directory.chmod(0o500)
        root.joinpath(".swamp").chmod(0)
    try:
        yield root
    finally:
        for path in (root, *([] if os.geteuid() == 0 else [root / ".swamp"])):
            path.chmod(0o700)
        for directory in [path for path in root.rglob("*") if path.is_dir()]:
            directory.chmod(0o700)
        shutil.rmtree(root)


def as_nobody(root: Path, *typed: str) -> subprocess.CompletedProcess[str]:
    """Run it as somebody who may read the repository but not change it."""
    return subprocess.run(
        [SWAMP, *typed],
        cwd=root,
        env=environment({"HOME": "/nonexistent"}),
        capture_output=True,
        text=True,
        check=False,
        user=NOBODY if os.geteuid() == 0 else None,
    )


@pytest.fixture(scope="module")
def can_be_nobody(foreign: Path) -> None:
    try:
        done = as_nobody(foreign, "--version")
    except PermissionError:
        done = None
    if done is None or done.returncode:
        pytest.skip("another user cannot read this checkout")


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        (["model", "create", "command/shell", "more", "--arg", "execute.run=x"], "models/command/shell/more.yaml"),
        (["model", "delete", "echo", "-y"], "models/command/shell/echo.yaml"),
        (["workflow", "create", "more"], "workflows/more.yaml"),
        (["workflow", "delete", "demo", "-y"], "workflows/demo.yaml"),
        (["vault", "create", "local_encryption", "more"], ".swamp/secrets"),
        (["vault", "put", "main", "k", "v"], ".swamp/secrets/main"),
        (["vault", "list-keys", "main"], ".swamp/secrets/main"),
        (["worker", "token", "create", "node", "--duration", "1h"], ".swamp/data/swamp.db"),
        (["worker", "token", "list"], ".swamp/data/swamp.db"),
        (["model", "method", "run", "echo", "execute"], ".swamp/data/swamp.db"),
        (["data", "query", "true"], ".swamp/data/swamp.db"),
        (["data", "list"], ".swamp/data/swamp.db"),
        (["workflow", "history", "search"], ".swamp/data/swamp.db"),
        (["redis", "url"], ".swamp/keys/orchestrator.json"),
        (["serve", "--port", "0"], ".swamp/serve.lock"),
        (["init", "inner"], "inner"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else part,
)
def test_a_closed_file_is_named_and_the_command_not_allowed(
    typed: list[str], names: str, foreign: Path, can_be_nobody: None
) -> None:
    before = {path: path.stat().st_mtime_ns for path in foreign.rglob("*") if ".swamp/" not in str(path)}
    done = as_nobody(foreign, *typed)
    assert done.returncode == 4, done.stderr
    assert done.stdout == ""
    first, *hint = done.stderr.splitlines()
    assert first.startswith(f"Error: {foreign / names}")
    assert first.endswith("Permission denied")
    assert hint == ["  run this as the user who owns it, or change its permissions"]
    assert {path: path.stat().st_mtime_ns for path in foreign.rglob("*") if ".swamp/" not in str(path)} == before


def test_models_that_cannot_be_seen_are_not_taken_for_none(foreign: Path, can_be_nobody: None) -> None:
    shell = foreign / "models/command/shell"
    mode = shell.stat().st_mode & 0o777
    shell.chmod(0)
    try:
        done = as_nobody(foreign, "model", "get", "echo")
    finally:
        shell.chmod(mode)
    assert done.returncode == 4
    assert done.stderr.startswith(f"Error: {shell}: Permission denied\n")
