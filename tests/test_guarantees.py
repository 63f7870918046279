"""`docs/guarantees.md` has every promise, and names only experiments that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.bites import Bite, every_bite

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
PROMISES = re.findall(r"^## (G\d+)\. .*\n((?:(?!^## ).*\n)*)", TEXT, re.MULTILINE)
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


def names_of(file: Path) -> Iterator[str]:
    """What pytest may collect: functions, classes, and classes that got their name by an assignment."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def test_every_promise_is_on_the_page_in_order():
    assert [name for name, _ in PROMISES] == [f"G{number}" for number in range(1, 14)]


@pytest.mark.parametrize(("promise", "text"), PROMISES, ids=[name for name, _ in PROMISES])
def test_every_promise_is_shown_by_a_test(promise: str, text: str):
    shown = text.partition("**Shown by")[2].partition("**Not shown yet:**")[0]
    assert re.search(r"^- `tests/[\w/]+\.py::\w+`", shown, re.MULTILINE), promise


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_every_test_named_on_the_page_exists(file: str, name: str):
    assert re.match(r"[Tt]est", name)
    assert (ROOT / file).is_file()
    assert name in set(names_of(ROOT / file))


def test_no_test_is_named_in_another_form():
    assert len(re.findall(r"tests/[\w/]+\.py::", TEXT)) == len(re.findall(r"`tests/[\w/]+\.py::\w+`", TEXT))


@pytest.mark.parametrize("promise", [name for name, _ in PROMISES])
def test_something_that_keeps_each_promise_is_taken_out_in_turn(promise: str):
    assert [name for name in every_bite() if name.startswith(f"{promise}: ")]


@pytest.mark.parametrize("bite", every_bite().values(), ids=lambda bite: bite.name)
def test_every_experiment_that_has_to_fail_without_something_exists(bite: Bite):
    file, _, name = bite.attack.partition("[")[0].partition("::")
    assert (ROOT / file).is_file()
    assert not name or name in set(names_of(ROOT / file))
