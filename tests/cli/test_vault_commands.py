from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from swamp.cli.main import run
from tests.processes import Ended, run_swamp

VALUE = "hunter2-the-value"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A repository with the vault `main`, in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWAMP_REPO_DIR", raising=False)
    run(["init"])
    run(["vault", "create", "local_encryption", "main"])
    capsys.readouterr()
    return tmp_path


def put(repo: Path, *arguments: str, stdin: str = "") -> Ended:
    return run_swamp("vault", "put", *arguments, cwd=repo, stdin=stdin)


def read(repo: Path, key: str) -> str:
    return run_swamp("vault", "read-secret", "main", key, cwd=repo).stdout


def test_a_vault_is_created(repo, capsys):
    assert run(["vault", "create", "local_encryption", "second"]) == 0

    assert capsys.readouterr().out == "Created vault: second (local_encryption)\n"


def test_a_created_vault_as_json(repo, capsys):
    assert run(["vault", "create", "local_encryption", "second", "--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document.pop("id")
    assert document == {
        "name": "second",
        "type": "local_encryption",
        "typeName": "Local encryption",
        "config": {},
    }


@pytest.mark.parametrize(
    ("typed", "code", "told"),
    [
        (["create"], 2, "missing argument 'TYPE'"),
        (["create", "local_encryption"], 2, "missing argument 'NAME'"),
        (["create", "main", "local_encryption"], 3, "swamp vault create local_encryption main"),
        (["create", "local_encryption", "main"], 1, "there already is a vault 'main'"),
        (["create", "local_encryption", "no/name"], 2, "'no/name' cannot be the name of a vault"),
        (["put", "main"], 2, "missing argument 'KEY'"),
        (["put", "mian", "key", VALUE], 3, "did you mean 'main'"),
        (["put", "main", f"key={VALUE}"], 1, "swamp vault put <vault> <key> <value>"),
        (["put", "main", "../key", VALUE], 1, "'../key' cannot be the key"),
        (["put", "main", "key", ""], 1, "is empty"),
        (["put", "main", "key", "the", VALUE], 2, "put it in quotes"),
        (["put", "main", "key", f"-----BEGIN {VALUE}"], 2, "swamp vault put <vault> <key> < file"),
        (["put", "main", "key", f"-{VALUE}"], 2, "swamp vault put <vault> <key> < file"),
        (["read-secret", "main"], 2, "missing argument 'KEY'"),
        (["read-secret", "main", "key"], 3, "swamp vault list-keys main"),
        (["read-secret", "main", "a b"], 1, "cannot be the key"),
        (["list-keys"], 2, "missing argument 'VAULT'"),
        (["list-keys", "nothing"], 3, "vaults: main"),
        (["list-keys", "main", "extra"], 2, "unexpected extra argument"),
        (["delete", "main", "key"], 3, "swamp vault list-keys main"),
        (["delete", "main", "key", "-y"], 3, "swamp vault list-keys main"),
        (["delete", "nothing", "key"], 3, "vaults: main"),
        (["get", "main", "key"], 2, "read-secret"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_command_typed_wrong_says_so_shows_no_value_and_changes_nothing(form, typed, code, told, repo, capsys):
    before = {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()}

    # `--json` comes first: after the wrong words it might be read as one of them.
    assert run([*(["--json"] if form == "json" else []), "vault", *typed]) == code

    shown = capsys.readouterr()
    assert shown.out == ""
    assert VALUE not in shown.err
    if form == "json":
        document = json.loads(shown.err)
        assert told in f"{document['error']}\n{document['hint']}"
    else:
        assert told in shown.err
    assert {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()} == before


def test_a_value_can_be_an_argument(repo):
    done = put(repo, "main", "api-key", VALUE)

    assert (done.code, done.stdout, done.stderr) == (0, "Stored secret api-key in vault main\n", "")
    assert read(repo, "api-key") == VALUE


@pytest.mark.parametrize(
    ("given", "stored"),
    [("v", "v"), ("v\n", "v"), ("v\r\n", "v"), ("v\n\n", "v\n"), ("a\nb\n", "a\nb"), (" v ", " v "), ("v\r", "v\r")],
)
def test_a_value_can_come_on_stdin_and_loses_one_newline_at_its_end(given, stored, repo):
    assert put(repo, "main", "k", stdin=given).code == 0

    assert json.loads(run_swamp("vault", "read-secret", "main", "k", "--json", cwd=repo).stdout)["value"] == stored


@pytest.mark.parametrize("nothing", ["", "\n"])
def test_an_empty_value_on_stdin_is_refused(nothing, repo):
    done = put(repo, "main", "k", stdin=nothing)

    assert (done.code, done.stdout) == (1, "")
    assert "empty" in done.stderr


def test_a_value_after_two_dashes_may_begin_with_a_dash(repo):
    assert put(repo, "main", "k", "--", "-v").code == 0

    assert read(repo, "k") == "-v"


@pytest.mark.parametrize(("arguments", "stdin"), [(["new"], ""), ([], "new\n")], ids=["argument", "stdin"])
def test_overwriting_needs_y_where_nobody_can_be_asked(arguments, stdin, repo):
    put(repo, "main", "k", "old")

    refused = put(repo, "main", "k", *arguments, stdin=stdin)
    assert (refused.code, refused.stdout) == (2, "")
    assert "-y" in refused.stderr
    assert read(repo, "k") == "old"

    assert put(repo, "main", "k", *arguments, "-y", stdin=stdin).code == 0
    assert read(repo, "k") == "new"


def test_the_environment_can_agree_for_put(repo):
    put(repo, "main", "k", "old")

    run_swamp("vault", "put", "main", "k", "new", cwd=repo, env={"SWAMP_VAULT_PUT_YES": "1"})

    assert read(repo, "k") == "new"


def test_put_as_json(repo, capsys):
    documents = []
    for _ in range(2):
        assert run(["vault", "put", "main", "k", VALUE, "-y", "--json"]) == 0
        documents.append(json.loads(capsys.readouterr().out))

    assert [document.pop("overwritten") for document in documents] == [False, True]
    for document in documents:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document.pop("timestamp"))
        assert document == {"vaultName": "main", "secretKey": "k", "vaultType": "local_encryption"}


def test_a_secret_in_a_pipe_has_nothing_added(repo):
    put(repo, "main", "k", "höchst geheim")

    assert read(repo, "k") == "höchst geheim"


def test_read_secret_as_json(repo, capsys):
    put(repo, "main", "k", VALUE)

    assert run(["vault", "read-secret", "main", "k", "--json"]) == 0

    assert json.loads(capsys.readouterr().out) == {
        "vaultName": "main",
        "secretKey": "k",
        "vaultType": "local_encryption",
        "value": VALUE,
    }


def test_keys_are_listed_without_values(repo, capsys):
    for key in ("b", "a/c"):
        put(repo, "main", key, VALUE)

    assert run(["vault", "list-keys", "main"]) == 0
    assert capsys.readouterr().out == "Vault main (local_encryption): 2 keys\n  - a/c\n  - b\n"

    assert run(["vault", "list-keys", "main", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "vaultName": "main",
        "vaultType": "local_encryption",
        "secretKeys": ["a/c", "b"],
        "count": 2,
    }


def test_an_empty_vault_is_listed(repo, capsys):
    assert run(["vault", "list-keys", "main"]) == 0
    assert capsys.readouterr().out == "Vault main (local_encryption): 0 keys\n"

    assert run(["vault", "list-keys", "main", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["secretKeys"] == []


def test_a_secret_is_deleted_with_y(repo, capsys):
    put(repo, "main", "k", VALUE)

    assert run(["vault", "delete", "main", "k", "-y"]) == 0

    assert capsys.readouterr().out == "Deleted secret k from vault main\n"
    assert run(["vault", "read-secret", "main", "k"]) == 3


def test_deleting_needs_y_where_nobody_can_be_asked(repo):
    put(repo, "main", "k", VALUE)

    refused = run_swamp("vault", "delete", "main", "k", cwd=repo)

    assert (refused.code, refused.stdout) == (2, "")
    assert "-y" in refused.stderr
    assert read(repo, "k") == VALUE


def test_delete_as_json(repo, capsys):
    put(repo, "main", "k", VALUE)

    assert run(["vault", "delete", "main", "k", "-y", "--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document.pop("timestamp")
    assert document == {"vaultName": "main", "secretKey": "k", "vaultType": "local_encryption"}
