from __future__ import annotations

import io
import json

import pytest

from swamp.cli.context import Context
from swamp.errors import Failed, Usage
from swamp.settings import Settings, from_environment


class Terminal(io.StringIO):
    """Stands where a keyboard is; real terminals are in test_vault_terminal.py."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def context() -> Context:
    return Context(settings=Settings())


def test_a_table_is_left_aligned_without_trailing_spaces(context, capsys):
    context.table(
        ["NAME", "STATE", "EXPIRES", "BOUND MACHINE"],
        [["build-node", "unused", "2026-06-15T11:34:58.961Z", "-"], ["b", "expired", "", ""]],
    )
    assert capsys.readouterr().out == (
        "NAME        STATE    EXPIRES                   BOUND MACHINE\n"
        "build-node  unused   2026-06-15T11:34:58.961Z  -\n"
        "b           expired\n"
    )


def test_a_document_is_json_that_people_can_read(context, capsys):
    context.document({"name": "✓", "empty": []})

    shown = capsys.readouterr().out
    assert json.loads(shown) == {"name": "✓", "empty": []}
    assert "✓" in shown


def test_bytes_go_out_as_they_are_and_in_order(context, capfdbinary):
    context.out("a")
    context.out_bytes(b"\xff\x00")
    context.out("b")
    assert capfdbinary.readouterr().out == b"a\n\xff\x00b\n"


@pytest.mark.parametrize(
    ("typed", "agreed"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_only_yes_confirms(typed, agreed, context, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert context.confirm("Sure?") is agreed
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "Sure? [y/N] ")


def test_declining_is_a_failure_that_changed_nothing(context, monkeypatch):
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    with pytest.raises(Failed, match="nothing was changed"):
        context.require("Sure?", agreed=False)


def test_without_a_terminal_a_question_is_an_error_that_names_y(context, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(Usage) as error:
        context.confirm("Sure?")
    assert "-y" in (error.value.hint or "")


@pytest.mark.parametrize("value", ["", "0", "false", "No", "off"])
def test_a_switch_in_the_environment_is_off_for_words_that_mean_off(value):
    assert not from_environment({"SWAMP_DEBUG": value}).debug


def test_settings_do_not_show_the_environment():
    assert "hunter2" not in repr(from_environment({"PASSWORD": "hunter2"}))
