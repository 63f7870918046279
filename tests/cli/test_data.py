"""The data commands, typed in a repository."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swamp.cli.main import run
from swamp.data.blobs import blob_path
from swamp.data.record import Origin
from swamp.data.store import Store
from swamp.data.versions import NewData, add_versions, find_version
from swamp.repo import Repo
from tests.data.samples import NOON, file, resource

Typed = Callable[..., tuple[int, str, str]]
Add = Callable[..., None]


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    (tmp_path / ".swamp.yaml").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for name in ("SWAMP_REPO_DIR", "SWAMP_JSON"):
        monkeypatch.delenv(name, raising=False)
    return Repo(tmp_path)


@pytest.fixture
def add(repo: Repo) -> Add:
    def add(*items: NewData) -> None:
        store = Store.open(repo.database, repo.blobs, create=True)
        with store.write() as tx:
            add_versions(tx, store.blobs, items)
        store.close()

    return add


@pytest.fixture
def typed(repo: Repo, capfdbinary: pytest.CaptureFixture[bytes]) -> Typed:
    """Type a command: its exit code, what it printed and what it said."""

    def typed(*arguments: str) -> tuple[int, str, str]:
        code = run(["data", *arguments])
        captured = capfdbinary.readouterr()
        return code, captured.out.decode(), captured.err.decode()

    return typed


def document(typed: Typed, *arguments: str) -> Any:
    code, out, _ = typed(*arguments, "--json")
    assert code == 0
    return json.loads(out)


def test_the_query_of_the_tutorial_prints_the_text_and_nothing_else(typed: Typed, add: Add) -> None:
    add(resource({"stdout": "executed on a worker"}), file(b"log"))
    add(resource({"stdout": "executed on a worker"}), resource({"stdout": "no"}, model="other"))
    query = 'modelName == "remote-echo" && specName == "result"'
    assert typed("query", query, "--select", "attributes.stdout") == (0, "executed on a worker\n", "")


def test_a_selection_prints_text_as_it_is_and_the_rest_as_json(typed: Typed, add: Add) -> None:
    add(resource({"v": {"b": [1, None], "a": "é"}}, name="map"), resource({"v": True}, name="bool"))
    add(resource({"v": '*"\\ü*'}, name="text"), resource({"v": 1.5}, name="number"), resource({}, name="nothing"))
    code, out, _ = typed("query", "true", "--select", "attributes.v")
    assert code == 0
    assert out.splitlines() == ["1.5", '*"\\ü*', "true", '{"a":"é","b":[1,null]}']


def test_without_a_selection_a_table_is_printed(typed: Typed, add: Add) -> None:
    add(resource({"stdout": "x"}), file(b"0123456789"))
    code, out, err = typed("query", 'modelName == "remote-echo"')
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "NAME    VERSION  MODEL        SPEC    CREATED                   SIZE",
        f"log     1        remote-echo  log     {NOON}  10",
        f"result  1        remote-echo  result  {NOON}  15",
    ]


def test_the_limit_keeps_the_newest_and_says_so(typed: Typed, add: Add) -> None:
    add(*(resource({"n": n}) for n in range(5)))
    code, out, err = typed("query", "version > 0", "--select", "version", "--limit", "2")
    assert (code, out) == (0, "5\n4\n")
    assert err == "Only the newest 2 are shown; --limit decides.\n"
    assert typed("query", "version > 0", "--select", "version", "--limit", "5") == (0, "5\n4\n3\n2\n1\n", "")
    found = document(typed, "query", "version > 0", "--select", "version", "--limit", "2")
    assert found == {"predicate": "version > 0", "results": [5, 4], "total": 2, "limited": True}
    assert not document(typed, "query", "version > 0", "--limit", "5")["limited"]


def test_in_json_a_record_is_whole_and_a_failed_selection_null(typed: Typed, add: Add) -> None:
    add(resource({"n": 1e400}), file(b"caf\xe9"))
    log, result = document(typed, "query", "true")["results"]
    assert (log["name"], log["content"], log["attributes"]) == ("log", "caf\ufffd", {})
    assert result["attributes"] == {"n": "Infinity"}
    assert document(typed, "query", "true", "--select", "attributes.n")["results"] == [None, "Infinity"]


def test_a_repository_without_data_has_empty_answers_and_stays_without(typed: Typed, repo: Repo) -> None:
    assert typed("query", "true") == (0, "", "No data matches.\n")
    assert document(typed, "query", "true") == {"predicate": "true", "results": [], "total": 0, "limited": False}
    assert typed("list") == (0, "", "There is no data yet.\n")
    assert document(typed, "list") == {"results": [], "total": 0}
    assert typed("get", "remote-echo", "result")[0] == 3
    assert typed("versions", "remote-echo", "result")[0] == 3
    assert not repo.state.exists()


def test_a_wrong_query_is_refused_also_without_data(typed: Typed) -> None:
    code, out, err = typed("query", 'modelname == "x"')
    assert (code, out) == (1, "")
    assert err.startswith("Error: unknown field 'modelname' in the predicate; did you mean 'modelName'?\n  fields: id,")
    code, _, err = typed("query", "true", "--select", "colour", "--json")
    assert (code, json.loads(err)["code"]) == (1, "unknown_field")


def test_damaged_content_is_named_and_does_not_hide_the_rest(typed: Typed, add: Add, repo: Repo) -> None:
    add(file(b"x" * 100_000), resource({"a": 1}))
    store = Store.open(repo.database, repo.blobs, create=False)
    with store.read() as tx:
        path = blob_path(repo.blobs, find_version(tx, "remote-echo", "log").checksum)
    store.close()
    path.write_bytes(b"y")
    code, out, err = typed("query", "true", "--select", "size(content)")
    assert (code, out) == (0, "8\n")
    assert str(path) in err
    assert typed("get", "remote-echo", "log")[0] == 1


def test_get_shows_what_the_data_is_and_what_it_holds(typed: Typed, add: Add) -> None:
    origin = Origin("remote-demo", "run-1", "build", "echo", "build-node", "m-1")
    add(resource({"stdout": "é"}, tags={"kind": "test"}, origin=origin))
    code, out, err = typed("get", "remote-echo", "result")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines.pop(3).startswith("Checksum: ")
    assert lines == [
        "Data: result (v1, newest)",
        "Model: remote-echo (command/shell)",
        "Content: application/json (resource), 20 bytes",
        "Tags: kind=test",
        f"Created: {NOON}",
        "Run: run-1",
        "Step: remote-demo / build / echo",
        "Target: build-node",
        "Machine: m-1",
        "",
        "{",
        '  "stdout": "é"',
        "}",
    ]


def test_get_prints_an_older_version_and_the_head_alone(typed: Typed, add: Add) -> None:
    add(resource({"n": 1}), resource({"n": 2}))
    assert document(typed, "get", "remote-echo", "result", "--version", "1")["content"] == '{"n": 1}'
    assert "content" not in document(typed, "get", "remote-echo", "result", "--no-content")
    _, out, _ = typed("get", "remote-echo", "result", "--no-content", "--version", "1")
    assert out.startswith("Data: result (v1)\nModel:")
    assert "{" not in out
    code, _, err = typed("get", "remote-echo", "result", "--version", "3")
    assert (code, err.splitlines()[0]) == (3, "Error: 'result' of model 'remote-echo' has no version 3")


@pytest.mark.parametrize("content", [b"", b"no newline", b"caf\xe9\0\xff\n\n", b"\r\n" * 100_000])
def test_content_alone_is_printed_byte_for_byte(
    repo: Repo, add: Add, capfdbinary: pytest.CaptureFixture[bytes], content: bytes
) -> None:
    add(file(content))
    assert run(["data", "get", "remote-echo", "log", "--content"]) == 0
    assert capfdbinary.readouterr() == (content, b"")


def test_get_does_not_throw_bytes_at_a_person(typed: Typed, add: Add) -> None:
    add(file(b"\x00\x01\xff"))
    assert typed("get", "remote-echo", "log")[1].endswith("\n\n(3 bytes that are not text; --content prints them)\n")


def test_list_shows_the_newest_of_each(typed: Typed, add: Add) -> None:
    add(resource({}), resource({}), file(b"123"), resource({}, model="other"))
    _, out, _ = typed("list")
    assert [line.split()[:3] for line in out.splitlines()] == [
        ["MODEL", "NAME", "VERSION"],
        ["other", "result", "1"],
        ["remote-echo", "log", "1"],
        ["remote-echo", "result", "2"],
    ]
    listed = document(typed, "list", "remote-echo")
    assert [(item["name"], item["version"], item["size"]) for item in listed["results"]] == [
        ("log", 1, 3),
        ("result", 2, 2),
    ]
    assert typed("list", "nobody") == (0, "", "There is no data of a model 'nobody'.\n")


def test_versions_shows_the_history_of_one(typed: Typed, add: Add) -> None:
    add(resource({"n": 1}), resource({"n": 22}))
    _, out, _ = typed("versions", "remote-echo", "result")
    assert [line.split()[:3] for line in out.splitlines()] == [
        ["VERSION", "CREATED", "SIZE"],
        ["2", NOON, "9"],
        ["1", NOON, "8"],
    ]
    history = document(typed, "versions", "remote-echo", "result")
    assert (history["dataName"], history["modelName"], history["total"]) == ("result", "remote-echo", 2)
    assert [(version["version"], version["isLatest"]) for version in history["versions"]] == [(2, True), (1, False)]
    code, _, err = typed("versions", "remote-echo", "reslut")
    assert code == 3
    assert "swamp data list" in err
