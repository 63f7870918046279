"""What SQLite decides is exactly what CEL would have decided."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swamp.data.cel import FIELDS, Undecided, compile_predicate
from swamp.data.pushdown import MOST_LITERALS, split
from swamp.data.query import parse_query, search
from swamp.data.record import Origin, Output
from swamp.data.store import Store
from swamp.data.syntax import free_names, read_tree
from swamp.data.versions import NewData, add_versions

TEXTS = ("", "a", "A", "b", "a b", "Ä", "a'b", 'a"b', "a\\b", "%", "_", "\uffff", "😀", "10", "9", "true", "a\nb")
COLUMNS = {"name": "n", "modelName": "m", "version": "v", "isLatest": "l"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    directory: Path = tmp_path_factory.mktemp("data")
    opened = Store.open(directory / "swamp.db", directory / "blobs", create=True)
    items = []
    for number in range(120):
        text, other = TEXTS[number % len(TEXTS)], TEXTS[number * 7 % 5]
        attributes = json.dumps({"n": number % 4, "t": text} if number % 3 else {"t": None}).encode()
        output = Output(other, text, ("resource", "file")[number % 2], "application/json", attributes, {"k": other})
        origin = Origin(other, text, "job", "step", text, other)
        items.append(
            NewData(f"id-{number % 5}", other, "command/shell", output, origin, f"2026-06-{number % 30 + 1:02}")
        )
    with opened.write() as tx:
        add_versions(tx, opened.blobs, items)
    yield opened
    opened.close()


def literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


text_fields = st.sampled_from(
    [
        "name",
        "modelName",
        "specName",
        "dataType",
        "contentType",
        "createdAt",
        "workflowName",
        "runId",
        "target",
        "machine",
    ]
)
texts = st.sampled_from([*TEXTS, "resource", "file", "2026-06-15", "nowhere"]).map(literal)
numbers = st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 12, 24, 2**63 - 1]).map(str)
operators = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
atoms = st.one_of(
    st.tuples(text_fields, operators, texts).map(" ".join),
    st.tuples(texts, operators, text_fields).map(" ".join),
    st.tuples(st.sampled_from(["version", "size"]), operators, numbers).map(" ".join),
    st.tuples(numbers, operators, st.sampled_from(["version", "size"])).map(" ".join),
    st.tuples(st.just("isLatest"), operators, st.sampled_from(["true", "false"])).map(" ".join),
    st.sampled_from(["isLatest", "true", "false"]),
    # what only CEL can decide, and what has no value on some rows
    st.sampled_from(
        [
            "attributes.n == 1",
            "attributes.n != 1",
            "attributes.t == name",
            "attributes.nothing",
            "has(attributes.n)",
            'tags.k == "a"',
            "1 / (version - 1) > 0",
            "name == modelName",
            'name.startsWith("a")',
            "size(name) > 1",
            '["a", "b"].exists(name, name == "a")',
            "[1, 2].exists(version, version == size(name))",
            'modelName in ["a", "b"]',
        ]
    ),
)
predicates = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}) && ({pair[1]})"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}) || ({pair[1]})"),
        st.tuples(inner, inner, inner).map(lambda three: f"({three[0]}) ? ({three[1]}) : ({three[2]})"),
        inner.map(lambda one: f"!({one})"),
    ),
    max_leaves=8,
)


def found(store: Store, predicate: str) -> list[object]:
    with store.read() as tx:
        return [match.value for match in search(tx, store.blobs, parse_query(predicate, "id"), unreadable=print)]


def decided_by_cel_alone(store: Store, predicate: str) -> list[object]:
    expression = compile_predicate(predicate)
    with store.read() as tx:
        every = [match.value for match in search(tx, store.blobs, parse_query("version > 0"), unreadable=print)]
    ids = []
    for record in every:
        assert isinstance(record, dict)
        try:
            holds = expression.evaluate({field: record[field] for field in expression.fields}, safe=False) is True
        except Undecided:
            continue
        if holds and (record["isLatest"] or not expression.fields.isdisjoint(("version", "isLatest"))):
            ids.append(record["id"])
    return ids


@settings(deadline=None, max_examples=300)
@given(predicates)
def test_the_same_rows_are_found_with_and_without_sql(store: Store, predicate: str) -> None:
    assert found(store, predicate) == decided_by_cel_alone(store, predicate)


@pytest.mark.parametrize(
    ("predicate", "conditions", "complete"),
    [
        ('modelName == "x"', ["(m) = ?"], True),
        ('"x" < modelName', ["(m) > ?"], True),
        ('modelName == "x" && version > 3 && isLatest', ["(m) = ?", "(v) > ?", "l"], True),
        ('!isLatest || name != "x"', ["(NOT (l)) OR ((n) <> ?)"], True),
        ('modelName == "x" && attributes.n == 1', ["(m) = ?"], False),
        ('modelName == "x" || attributes.n == 1', [], False),
        ("name == modelName", [], False),
        ('["a"].exists(name, name == "a")', [], False),
        ("true", ["1"], True),
    ],
)
def test_sqlite_gets_what_it_can_decide(predicate: str, conditions: list[str], complete: bool) -> None:
    parts = split(compile_predicate(predicate).tree, COLUMNS)
    assert [condition.sql for condition in parts.conditions] == conditions
    assert parts.complete == complete


def test_a_predicate_too_long_for_sqlite_is_decided_all_the_same(store: Store) -> None:
    many = MOST_LITERALS * 20
    assert found(store, " && ".join(['name != "nowhere"'] * many)) == found(store, "true")
    assert found(store, " || ".join(['name == "nowhere"'] * many + ["true"])) == found(store, "true")


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("name == modelName", {"name", "modelName"}),
        ("attributes.name.startsWith(target)", {"attributes", "target"}),
        ("[name].map(n, n + tags[n] + machine)", {"name", "tags", "machine"}),
        ("[1].exists(version, version > 0)", set()),
        ("[version].exists(version, version > 0)", {"version"}),
        ('{"a": name, size(content) > 1 ? "b" : "c": jobName}', {"name", "content", "jobName"}),
        ("1.5 < 2.0 && 1u < 2u && b'a' == b'a' && null == null", set()),
    ],
)
def test_the_fields_an_expression_looks_at_are_known(expression: str, names: set[str]) -> None:
    from swamp.data.cel import compile_expression

    assert free_names(compile_expression(expression, "selection").tree) & FIELDS.keys() == names


def test_unknown_parts_of_a_serialized_tree_are_passed_over() -> None:
    # Any { value: CheckedExpr { expr: Expr { id: 7, (unknown field 99, fixed64), ident_expr { name: "name" } } } }
    expr = bytes([0x10, 7, 0x99, 0x06, *range(8), 0x22, 6, 0x0A, 4]) + b"name"
    checked = bytes([0x22, len(expr)]) + expr
    assert free_names(read_tree(bytes([0x12, len(checked)]) + checked)) == {"name"}
