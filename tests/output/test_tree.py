"""The lines that stay: what a person reads of a run in a pipe or on a plain terminal."""

from __future__ import annotations

import io
import time
import tracemalloc

import pytest

from swamp.output.choose import listener_for
from swamp.output.paint import coloured, plain
from swamp.output.progress import KEPT_CHARACTERS, KEPT_LINES
from swamp.output.tree import Tree
from swamp.workflows.events import Event
from tests.output.events import Story, tutorial

TUTORIAL = """\
build                                                           ✓echo-on-worker
│ executed on a worker
── @swamp/workflow-summary ─────────────────────────────────
# remote-demo: succeeded

1 succeeded · 0 failed · 0 skipped
"""


def shown(events: list[Event], columns: int = 80) -> str:
    stream = io.StringIO()
    tree = Tree(stream, io.StringIO(), lambda: columns, plain)
    for event in events:
        tree.event(event)
    tree.close()
    return stream.getvalue()


def block(story: Story, columns: int = 80) -> list[str]:
    return shown(story.events, columns).splitlines()


def test_the_run_of_the_tutorial_is_shown_as_the_tutorial_prints_it() -> None:
    assert shown(tutorial()) == TUTORIAL


def test_a_pipe_gets_the_tree_without_colours_whatever_the_environment_says() -> None:
    stream = io.StringIO()
    view = listener_for(stream, io.StringIO(), {"TERM": "xterm", "COLUMNS": "20"}, json=False)
    for event in tutorial():
        view.event(event)
    view.close()
    assert stream.getvalue() == TUTORIAL


def test_every_end_of_a_step_has_its_glyph_and_reason_and_the_run_its_counts() -> None:
    story = Story("mixed")
    story.accepted([("build", ["compile", "test", "sign", "pack", "ship"])])
    story.started("build", "compile")
    story.output("build", "compile", "main.c: warning: unused", stream="stderr")
    story.output("build", "compile", "main.o")
    story.finished("build", "compile", "failed", "Command exited with code 2")
    story.finished("build", "test", "skipped")
    story.finished("build", "sign", "canceled", "canceled with Ctrl-C")
    story.finished("build", "pack", "canceled", took=None)  # it never began
    story.finished("build", "ship", "succeeded")
    story.ended("failed", succeeded=1, failed=1, skipped=1, canceled=2)
    assert shown(story.events, columns=40) == (
        "build                          ✗compile\n"
        "│ main.c: warning: unused\n"
        "│ main.o\n"
        "│ Error: Command exited with code 2\n"
        "build                             ─test\n"
        "build                             ✗sign\n"
        "│ Canceled: canceled with Ctrl-C\n"
        "build                             ─pack\n"
        "build                             ✓ship\n"
        "── @swamp/workflow-summary ─────────────────────────────────\n"
        "# mixed: failed\n"
        "\n"
        "1 succeeded · 1 failed · 1 skipped · 2 canceled\n"
    )


def test_names_that_do_not_fit_are_shown_whole() -> None:
    story = Story()
    story.finished("a-job-with-a-name", "a-step-with-a-name")
    assert block(story, columns=10) == ["a-job-with-a-name  ✓a-step-with-a-name"]


def test_names_of_wide_characters_are_aligned_by_the_columns_that_they_take() -> None:
    story = Story()
    story.finished("構築", "試験")
    assert block(story, columns=20) == ["構築" + " " * 10 + "✓試験"]


def test_long_output_lines_are_neither_cut_nor_wrapped() -> None:
    story = Story()
    story.output("build", "wide", "x" * 100_000)
    story.finished("build", "wide")
    assert block(story, columns=20)[1] == "│ " + "x" * 100_000


@pytest.mark.parametrize(
    ("printed", "seen"),
    [
        ("\x1b[2J\x1b[H\x1b]0;owned\x07", "\\x1b[2J\\x1b[H\\x1b]0;owned\\x07"),
        ("\x9b2J\x85next", "\\x9b2J\\x85next"),
        ("10%\r100%", "10%\\r100%"),
        ("dos line\r", "dos line"),
        ("a\x00b\x08c\x7f", "a\\x00b\\x08c\\x7f"),
        ("tab\tstays", "tab\tstays"),
        ("\u202egpj.exe\u2028x", "\\u202egpj.exe\\u2028x"),
        ("half \ud800 pair", "half \\ud800 pair"),
        ("ünïcödé ✓ 構築 🎉", "ünïcödé ✓ 構築 🎉"),
    ],
)
def test_what_a_step_prints_cannot_act_on_the_terminal(printed: str, seen: str) -> None:
    story = Story()
    story.output("build", "hostile", printed)
    story.finished("build", "hostile")
    assert shown(story.events).split("\n")[1] == f"│ {seen}"


def test_hostile_names_errors_and_statuses_cannot_act_on_the_terminal_either() -> None:
    story = Story("evil\x1b[H")
    story.accepted([])
    story.finished("job\n✓forged", "step\x1b[A", "failed", "line 1\nline 2\x1b[2J")
    story.ended("failed\x1b[H")
    text = shown(story.events)
    assert "\x1b" not in text
    assert text.split("\n")[0].startswith("job\\n✓forged ")
    assert text.split("\n")[1:3] == ["│ Error: line 1", "│ line 2\\x1b[2J"]


def test_only_the_last_lines_of_a_chatty_step_are_kept_and_the_rest_is_counted() -> None:
    story = Story()
    story.accepted([("build", ["chatty"])])
    for number in range(0, 5000, 10):
        story.output("build", "chatty", "\n".join(f"line {n}" for n in range(number, number + 10)))
    story.finished("build", "chatty")
    lines = block(story)
    assert lines[1] == "│ … 4,000 earlier lines: swamp workflow history logs 5d3c --step build/chatty"
    assert lines[2] == "│ line 4000"
    assert lines[-1] == "│ line 4999"
    assert len(lines) == 2 + KEPT_LINES


def test_long_lines_of_a_running_step_are_bounded_in_memory_too() -> None:
    tree = Tree(io.StringIO(), io.StringIO(), lambda: 80, plain)
    event = Story().output("build", "huge", "x" * 65_536)
    tracemalloc.start()
    for number in range(500):
        tree.event({**event, "text": f"{number} " + "x" * 65_536})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * KEPT_CHARACTERS


def test_colours_end_where_they_began() -> None:
    stream = io.StringIO()
    tree = Tree(stream, io.StringIO(), lambda: 80, coloured)
    for event in tutorial():
        tree.event(event)
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("\x1b[32m✓\x1b[0mecho-on-worker")
    assert lines[3] == "# remote-demo: \x1b[32msucceeded\x1b[0m"
    for line in lines:
        assert line.count("\x1b[") == 2 * line.count("\x1b[0m")


def test_unknown_kinds_and_broken_fields_are_passed_over() -> None:
    story = Story()
    story.add("step-teleported", job="build", step="x", to="the moon")
    story.add("run-accepted", workflow=7, jobs=[None, {"name": [], "steps": "none"}])
    story.add("step-output", job=None, text=[1])
    assert shown(story.events) == ""


def test_a_hundred_thousand_steps_cost_no_more_each_than_a_few() -> None:
    story = Story("wide")
    names = [f"step-{number}" for number in range(100_000)]
    story.accepted([("all", names)])
    for name in names:
        story.queued("all", name, "build-node")
    for name in names:
        story.started("all", name, "build-node", "build-node")
    for name in names:
        story.output("all", name, "hello")
        story.finished("all", name)
    begun = time.process_time()
    text = shown(story.events)
    took = time.process_time() - begun
    assert len(text.splitlines()) < 200
    # 400,001 events take about a second here; a cost per event that grows with the steps would take minutes.
    assert took < 15
