"""What a query finds, and what it says when it cannot."""

from __future__ import annotations

import json
import math

import pytest

from swamp.data.blobs import INLINE_LIMIT, blob_path
from swamp.data.cel import FIELDS
from swamp.data.passage import jsonable
from swamp.data.query import DEEPEST, parse_query, search
from swamp.data.record import Origin, Output
from swamp.data.store import Store
from swamp.data.versions import NewData, add_versions
from swamp.errors import Invalid, SwampError
from tests.data.samples import NOON, file, resource


def add(store: Store, *items: NewData) -> None:
    with store.write() as tx:
        add_versions(tx, store.blobs, items)


def find(store: Store, predicate: str, select: str | None = None) -> list[object]:
    def unreadable(error: SwampError) -> None:
        pytest.fail(error.message)

    with store.read() as tx:
        query = parse_query(predicate, select)
        return [match.value for match in search(tx, store.blobs, query, unreadable=unreadable)]


def test_the_query_of_the_tutorial_finds_the_text_once(store: Store) -> None:
    for _ in range(2):
        add(store, resource({"stdout": "executed on a worker"}), file(b"[stdout]\nexecuted on a worker\n"))
    add(store, resource({"stdout": "other"}, model="other"))
    found = find(store, 'modelName == "remote-echo" && specName == "result"', "attributes.stdout")
    assert found == ["executed on a worker"]


def test_only_the_newest_version_is_seen_unless_the_predicate_speaks_of_versions(store: Store) -> None:
    add(store, *(resource({"n": n}) for n in (1, 2, 3)), resource({"n": 9}, model="other"))
    assert find(store, "true", "attributes.n") == [9, 3]
    assert find(store, "attributes.n < 3", "attributes.n") == []
    assert find(store, "version > 0", "attributes.n") == [9, 3, 2, 1]
    assert find(store, "version == 2", "attributes.n") == [2]
    assert find(store, "!isLatest", "attributes.n") == [2, 1]
    assert find(store, "isLatest", "attributes.n") == [9, 3]
    assert find(store, "isLatest || attributes.n == 1", "attributes.n") == [9, 3, 1]


def test_a_variable_that_is_only_called_version_does_not_speak_of_versions(store: Store) -> None:
    add(store, resource({"n": 1}), resource({"n": 2}))
    assert find(store, "[1, 2].exists(version, version == 2)", "attributes.n") == [2]
    assert find(store, "[1, 2].exists(n, n == version)", "attributes.n") == [2, 1]


def test_a_record_has_every_field(store: Store) -> None:
    origin = Origin("remote-demo", "run-1", "build", "echo", "build-node", "m-1")
    add(store, resource({"stdout": "hello"}, tags={"kind": "test"}, origin=origin))
    [record] = find(store, 'name == "result"')
    assert isinstance(record, dict)
    assert list(record) == list(FIELDS)
    assert len(record.pop("id")) == 36
    assert len(record.pop("checksum")) == 64
    assert record == {
        "name": "result",
        "version": 1,
        "isLatest": True,
        "createdAt": NOON,
        "modelName": "remote-echo",
        "modelType": "command/shell",
        "specName": "result",
        "dataType": "resource",
        "contentType": "application/json",
        "tags": {"kind": "test"},
        "size": 19,
        "attributes": {"stdout": "hello"},
        "content": '{"stdout": "hello"}',
        "workflowName": "remote-demo",
        "runId": "run-1",
        "jobName": "build",
        "stepName": "echo",
        "target": "build-node",
        "machine": "m-1",
    }


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_can_be_asked_for_and_selected(store: Store, field: str) -> None:
    add(store, resource({"a": 1}, tags={"k": "v"}))
    [value] = find(store, f"{field} == {field}", field)
    [record] = find(store, "true")
    assert isinstance(record, dict)
    assert value == record[field]


def test_what_a_row_lacks_is_no_match_and_no_error(store: Store) -> None:
    add(store, resource({"exitCode": 0}), file(b"text"), resource([1, 2], name="list"), resource("text", name="text"))
    assert find(store, "attributes.exitCode == 0", "name") == ["result"]
    assert find(store, "attributes.exitCode != 0", "name") == []
    assert find(store, "attributes.nothing.deeper > 3", "name") == []
    assert find(store, 'attributes.exitCode == 0 || name == "log"', "name") == ["log", "result"]
    assert find(store, 'tags.colour == "blue"', "name") == []
    assert find(store, "attributes.exitCode", "name") == []
    assert find(store, "1 / (version - 1) == 0", "name") == []


def test_a_selection_without_a_value_is_told_apart_from_null(store: Store) -> None:
    add(store, resource({"a": None}), resource({}, name="empty"))
    with store.read() as tx:
        matches = list(search(tx, store.blobs, parse_query("true", "attributes.a"), unreadable=lambda _: None))
    assert [(match.value, match.decided) for match in matches] == [(None, False), (None, True)]


@pytest.mark.parametrize(
    "attributes",
    [
        {"t": "a\0b"},
        {"t": "a\0b\ufdd0\ufdd1"},
        {"t\0": ["\0", {"\0": "\0"}]},
        {"t": "é€😀", "n": -(2**63), "m": 2**63 - 1, "f": 0.1},
        {"t": "\x1b[31m\r\n\t\x7f"},
        {"t": "\\u0000 is not NUL"},
        {"t": None, "l": [True, False, [], {}, ""]},
        {"digits": "12345678901234567890123"},
    ],
)
def test_text_and_numbers_arrive_unharmed(store: Store, attributes: object) -> None:
    add(store, resource(attributes))
    assert find(store, "attributes == attributes", "attributes") == [attributes]
    if isinstance(attributes, dict) and isinstance(attributes.get("t"), str):
        assert find(store, "true", "size(attributes.t)") == [len(attributes["t"])]


@pytest.mark.parametrize(
    ("stored", "seen"),
    [
        ('{"n": 18446744073709551621, "ok": 1}', {"n": 2.0**64, "ok": 1}),
        ('{"n": -99999999999999999999, "ok": 1}', {"n": -1e20, "ok": 1}),
        ('{"t": "\\ud800", "ok": 1}', {"t": "?", "ok": 1}),
        ('{"n": 1' + "0" * 400 + ', "ok": 1}', {"n": math.inf, "ok": 1}),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), {}),
        ("[" * 100_000 + "]" * 100_000, {}),
        ("{not json", {}),
        ("", {}),
    ],
)
def test_a_strange_document_harms_no_query(store: Store, stored: str, seen: object) -> None:
    output = Output("result", "strange", "resource", "application/json", stored.encode())
    add(store, resource({"ok": 1}), NewData("id", "m", "command/shell", output, Origin(), NOON))
    assert find(store, 'name == "strange"', "attributes") == [seen]
    expected = ["strange", "result"] if isinstance(seen, dict) and "ok" in seen else ["result"]
    assert find(store, "attributes.ok == 1", "name") == expected


def test_bytes_that_are_not_text_are_seen_with_replacements(store: Store) -> None:
    add(store, file(b"caf\xe9\0\xff"))
    assert find(store, "true", "content") == ["caf\ufffd\0\ufffd"]
    assert find(store, 'content.startsWith("caf")', "size(content)") == [6]


def test_long_content_is_searched_too(store: Store) -> None:
    add(store, file(b"x" * INLINE_LIMIT + b"needle"), resource({"text": "y" * INLINE_LIMIT}))
    assert find(store, 'content.contains("needle")', "name") == ["log"]
    assert find(store, 'attributes.text.endsWith("y")', "size(attributes.text)") == [INLINE_LIMIT]


def test_one_damaged_file_hides_only_its_own_row(store: Store) -> None:
    add(store, file(b"x" * 100_000), resource({"a": 1}))
    with store.read() as tx:
        [checksum] = tx.execute("SELECT checksum FROM data WHERE content IS NULL").fetchone()
    blob_path(store.blobs, checksum).unlink()
    told: list[SwampError] = []
    with store.read() as tx:
        query = parse_query("size(content) > 0", "name")
        assert [match.value for match in search(tx, store.blobs, query, unreadable=told.append)] == ["result"]
        assert len(told) == 1
        query = parse_query('modelName == "remote-echo"', "name")  # nobody looks at the content: it is not read
        assert len(list(search(tx, store.blobs, query, unreadable=told.append))) == 2
    assert [error.code for error in told] == ["content_damaged"]


@pytest.mark.parametrize(
    ("predicate", "message"),
    [
        ('modelname == "x"', "unknown field 'modelname' in the predicate; did you mean 'modelName'?"),
        ("attribute.stdout == 1", "unknown field 'attribute' in the predicate; did you mean 'attributes'?"),
        ("modelName == zzz", "unknown field 'zzz' in the predicate"),
        ("shout(name)", "unknown function 'shout' in the predicate"),
        ("name.shout()", "unknown function 'shout' in the predicate"),
        ("modelName", "the predicate must be true or false, but 'modelName' gives string"),
        ("name == 1", "the predicate is not valid at character 6: found no matching overload"),
        ("name = 1", "the predicate is not valid at character 6: '=' compares nothing"),
        ("", "the predicate is empty"),
        ("name ==", "the predicate is not valid at character 8: Syntax error: it ends too early"),
        ("true\n&& name ==", "the predicate is not valid at line 2, character"),
        ("(" * 1000 + "true" + ")" * 1000, "the predicate is not a CEL expression"),
        ('name == "\udcff"', "it is not Unicode text"),
        ('name == "\\u0000"', "the predicate holds a NUL character"),
    ],
)
def test_a_wrong_predicate_is_explained(predicate: str, message: str) -> None:
    with pytest.raises(Invalid) as error:
        parse_query(predicate)
    assert message in error.value.message
    assert error.value.hint


def test_an_unknown_field_is_answered_with_all_that_are_known() -> None:
    with pytest.raises(Invalid) as error:
        parse_query("true", "colour")
    assert error.value.message.startswith("unknown field 'colour' in the selection")
    assert error.value.hint is not None
    assert all(field in error.value.hint for field in FIELDS)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[1, 2u, 3.5, null, true]", [1, 2, 3.5, None, True]),
        ('{"b": 1, "a": {"c": [2]}}', {"a": {"c": [2]}, "b": 1}),
        ("{1: 2}", {"1": 2}),
        ('b"\\xff"', "/w=="),
        ('timestamp("2026-06-15T11:34:58.961Z")', "2026-06-15T11:34:58.961Z"),
        ('duration("90s")', "90s"),
        ("0.0 / 0.0", "NaN"),
        ("-1.0 / 0.0", "-Infinity"),
    ],
)
def test_every_value_has_a_form_in_json(store: Store, expression: str, expected: object) -> None:
    add(store, resource({}))
    [value] = find(store, "true", expression)
    assert json.loads(json.dumps(jsonable(value), allow_nan=False)) == expected


def test_a_query_of_few_names_is_quick_whatever_the_number_of_versions(store: Store) -> None:
    add(store, *(resource({"n": n}) for n in range(5000)))
    with store.read() as tx:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        tx.set_progress_handler(count, 100)  # called after every 100 instructions of SQLite's machine
        query = parse_query('modelName == "remote-echo"', "attributes.n")
        assert [match.value for match in search(tx, store.blobs, query, unreadable=lambda _: None)] == [4999]
        tx.set_progress_handler(None, 0)
    assert steps < 20
