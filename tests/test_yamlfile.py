"""YAML is read strictly, written so that everybody reads it back, and its errors name a line."""

from __future__ import annotations

from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from swamp.errors import Invalid
from swamp.yamlfile import DEPTH, check_keys, dump, load

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
AWKWARD = st.sampled_from(["yes", "on", "0755", "1e5", "1E5", "12:30", "~", "", "<<", "=", "2026-06-15", "-0", ".inf"])
WHOLE = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False, allow_infinity=False) | TEXT | AWKWARD,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries((TEXT | AWKWARD).filter("<<".__ne__), inner, max_size=4)
    ),
    max_leaves=12,
)


def refusal(text: str) -> str:
    with pytest.raises(Invalid) as refused:
        load(text, "x.yaml")
    return refused.value.message


@given(st.dictionaries(TEXT | AWKWARD, JSON, min_size=1, max_size=4).filter(lambda value: "<<" not in value))
def test_what_is_written_is_read_back(value: dict[str, object]) -> None:
    assert load(dump(value), "x.yaml").plain() == value


@given(st.dictionaries(TEXT, TEXT | AWKWARD, min_size=1, max_size=4))
def test_text_that_is_written_stays_text_for_a_yaml_1_1_reader(value: dict[str, str]) -> None:
    assert yaml.safe_load(dump(value)) == value


@given(st.text(max_size=200))
def test_any_text_is_either_read_or_refused_as_invalid(text: str) -> None:
    with suppress(Invalid):
        load(text, "x.yaml").plain()


@given(st.text("[]{}-:,&*!a1 \n'\"|<?%", max_size=60))
def test_any_heap_of_yaml_signs_is_either_read_or_refused_as_invalid(text: str) -> None:
    with suppress(Invalid):
        load(text, "x.yaml").plain()


@pytest.mark.parametrize(
    "word", ["yes", "no", "on", "off", "True", "0755", "0x1f", "12:30", "2026-06-15", "1_000", "+5"]
)
def test_words_that_only_look_like_something_else_are_text(word: str) -> None:
    assert load(f"a: {word}", "x.yaml").plain() == {"a": word}


def test_json_values_are_what_they_look_like() -> None:
    text = "{a: true, b: null, c: ~, d: -12, e: 1.5e3, f: 'true', g: }"
    values = {"a": True, "b": None, "c": None, "d": -12, "e": 1500.0, "f": "true", "g": None}
    assert load(text, "x.yaml").plain() == values


def test_the_key_on_has_its_name() -> None:
    assert load("on: 1", "x.yaml").plain() == {"on": 1}


def test_a_repeated_key_is_refused_with_its_line() -> None:
    assert refusal("a: 1\nb: 2\na: 3\n") == "x.yaml:3: the key 'a' stands here a second time"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.yaml is empty"),
        ("# only talk", "x.yaml is empty"),
        ("a: 1\n---\nb: 2", "x.yaml:2: a second document begins here"),
        ("\na: b: c", "x.yaml:2: this is not YAML: mapping values are not allowed in this context"),
        ("a: \x01", "x.yaml: this is not YAML: it holds a character that text cannot hold"),
        ("a: \ud800", "x.yaml: this is not YAML: it holds a character that text cannot hold"),
        ("a: &b {}\nc:\n  <<: *b", "x.yaml:3: merge keys ('<<') are not read here"),
        ("a: !!binary aGk=", "x.yaml:1: the tag 'tag:yaml.org,2002:binary' is not read here"),
        (
            "a: !!python/object/apply:os.getcwd []",
            "x.yaml:1: the tag 'tag:yaml.org,2002:python/object/apply:os.getcwd' is not read here",
        ),
        ("a: &a [*a]", "x.yaml:1: the alias '*a' stands for nothing that ended before it"),
        ("a: *b", "x.yaml:1: the alias '*b' stands for nothing that ended before it"),
        ("? [a]\n: b", "x.yaml:1: a list or a mapping cannot be a key"),
        ("a: 9223372036854775808", "x.yaml:1: the number is too large"),
        ("a: " + "9" * 10_000, "x.yaml:1: the number is too large"),
        ("a: 1e999", "x.yaml:1: the number is too large"),
    ],
)
def test_what_could_surprise_is_refused(text: str, message: str) -> None:
    assert refusal(text) == message


@pytest.mark.parametrize("text", ["[" * 300_000, "- " * 300_000 + "a", "{a: " * 300_000])
def test_endless_nesting_is_refused(text: str) -> None:
    assert refusal(text) == f"x.yaml:1: lists and mappings are nested more than {DEPTH} deep"


def test_aliases_are_read_but_may_not_multiply() -> None:
    assert load("a: &x [1]\nb: *x", "x.yaml").plain() == {"a": [1], "b": [1]}
    bomb = "a0: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    assert "aliases repeat more than" in refusal(bomb)


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_valid_one() -> None:
    node = load("name: a\n\nlables:\n  gpu: x\n", "workflows/x.yaml")
    with pytest.raises(Invalid) as refused:
        check_keys(node, ("name", "labels"), "step 'a'")
    assert refused.value.message == "workflows/x.yaml:3: unknown key 'lables' in step 'a'; did you mean 'labels'?"
    assert refused.value.hint == "valid keys: name, labels"


def test_a_missing_key_is_named() -> None:
    with pytest.raises(Invalid, match=r"x.yaml:1: job 'a' has no 'steps'"):
        check_keys(load("name: a", "x.yaml"), ("name", "steps"), "job 'a'", required=("name", "steps"))


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ("5", "x.yaml:1: it must be text, not the number 5", "put it in quotes: '5'"),
        ("true", "x.yaml:1: it must be text, not the truth value true", "put it in quotes: 'true'"),
        ("[a]", "x.yaml:1: it must be text, not a list", None),
        ("", "x.yaml:1: it has no value; it must be text", "give it one, or remove the line"),
    ],
)
def test_a_value_of_another_kind_is_refused(value: str, message: str, hint: str | None) -> None:
    with pytest.raises(Invalid) as refused:
        load(f"a: {value}", "x.yaml").entries("it")["a"].text("it")
    assert (refused.value.message, refused.value.hint) == (message, hint)


def test_whole_numbers_have_a_least_value_and_are_no_truth_values() -> None:
    entries = load("{a: 0, b: true, c: 2}", "x.yaml").entries("it")
    assert entries["c"].whole("it", minimum=1) == 2
    for key in "ab":
        with pytest.raises(Invalid):
            entries[key].whole("it", minimum=1)


def test_a_mapping_of_texts_takes_whole_numbers_as_they_are_written() -> None:
    assert load("{a: 8080, b: x}", "x.yaml").texts("it") == {"a": "8080", "b": "x"}
    with pytest.raises(Invalid, match="must be text"):
        load("{a: 1.10}", "x.yaml").texts("it")
