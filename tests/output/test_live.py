"""The live view on a real pseudo-terminal: what stays, what is drawn below it, and what is left behind."""

from __future__ import annotations

import time

import pytest

from swamp.output.choose import listener_for
from swamp.output.live import Live
from swamp.output.paint import plain
from swamp.output.terminal import extent_of
from tests.output.events import Story, tutorial
from tests.output.screen import Screen, seen
from tests.output.test_tree import shown
from tests.waiting import wait_until

XTERM = {"TERM": "xterm-256color"}


@pytest.fixture
def screen() -> Screen:
    return Screen()


def live(screen: Screen) -> Live:
    return Live(screen.stream, lambda: extent_of(screen.stream), plain)


def test_the_tutorial_looks_on_a_terminal_as_it_is_printed(screen: Screen) -> None:
    view = listener_for(screen.stream, screen.stream, {**XTERM, "NO_COLOR": "1"}, json=False)
    for event in tutorial():
        view.event(event)
    view.close()
    written = screen.end()
    assert "\x1b[3" not in written
    assert seen(written, 80) == [
        "build                                                           ✓echo-on-worker",
        "│ executed on a worker",
        "── @swamp/workflow-summary ─────────────────────────────────",
        "# remote-demo: succeeded",
        "",
        "1 succeeded · 0 failed · 0 skipped",
        "",
    ]


def test_output_shows_below_while_its_step_runs_and_nothing_of_the_zone_stays(screen: Screen) -> None:
    story = Story()
    view = live(screen)
    view.event(story.accepted([("build", ["compile", "test"])], target="build-node"))
    view.event(story.started("build", "compile", "build-node", "build-node"))
    view.event(story.output("build", "compile", "half way"))
    wait_until(lambda: "│ half way\n○ 1 waiting for other steps".encode() in screen.received, "the zone")
    view.event(story.finished("build", "compile"))
    view.event(story.started("build", "test", "build-node", "build-node"))
    wait_until(lambda: "▸ build/test".encode() in screen.received, "the next step")
    view.event(story.finished("build", "test", "failed", "Command exited with code 1"))
    view.event(story.ended("failed", succeeded=1, failed=1))
    view.close()
    assert seen(screen.end(), 80) == [
        "build                                                                  ✓compile",
        "│ half way",
        "build                                                                     ✗test",
        "│ Error: Command exited with code 1",
        "── @swamp/workflow-summary ─────────────────────────────────",
        "# remote-demo: failed",
        "",
        "1 succeeded · 1 failed · 0 skipped",
        "",
    ]


def test_times_go_on_without_events(screen: Screen) -> None:
    story = Story()
    view = live(screen)
    view.event(story.accepted([("build", ["slow"])]))
    view.event(story.started("build", "slow"))
    wait_until(lambda: b"build/slow \xc2\xb7 1s" in screen.received, "the second to pass")
    view.close()
    assert seen(screen.end(), 80) == [""]


def test_a_run_that_breaks_off_leaves_its_blocks_and_no_zone(screen: Screen) -> None:
    story = Story()
    view = live(screen)
    view.event(story.finished("build", "first"))
    view.event(story.started("build", "second"))
    wait_until(lambda: b"build/second" in screen.received, "the zone")
    view.note("Canceling the run.")
    view.close()
    assert [line.split(" ")[0] for line in seen(screen.end(), 80)] == ["build", "Canceling", ""]


@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (5, 2), (11, 24), (13, 4), (200, 3)])
def test_tiny_terminals_get_what_fits_and_the_lines_that_stay(columns: int, rows: int) -> None:
    screen = Screen(columns, rows)
    story = Story()
    view = live(screen)
    view.event(story.accepted([("build", ["a", "b"])]))
    view.event(story.started("build", "a"))
    view.event(story.output("build", "a", "x" * 300))
    view.event(story.finished("build", "b"))
    wait_until(lambda: "✓b".encode() in screen.received, "the block of b")
    view.event(story.finished("build", "a"))
    view.close()
    written = screen.end()
    gap = max(2, columns - 1 - len("build✓b"))
    staying = [f"build{' ' * gap}✓b", f"build{' ' * gap}✓a", "│ " + "x" * 300]
    assert "".join(seen(written, columns)) == "".join(staying)


def test_a_terminal_made_narrower_is_cleared_of_the_broken_zone() -> None:
    screen = Screen(80, 24)
    story = Story()
    view = live(screen)
    view.event(story.accepted([("build", ["a"])]))
    view.event(story.started("build", "a"))
    wait_until(lambda: b"build/a" in screen.received, "the zone")
    before = screen.received.decode()
    heights = [-(-len(line) // 30) for line in before.split("\x1b[J")[-1].splitlines()]
    screen.resize(30, 24)
    view.close()
    assert screen.end().endswith(f"\x1b[{sum(heights)}A\r\x1b[J")


def test_a_burst_of_events_is_drawn_a_few_times_only(screen: Screen) -> None:
    story = Story("wide")
    names = [f"step-{number}" for number in range(20_000)]
    story.accepted([("all", names)])
    for name in names:
        story.started("all", name)
    for name in names:
        story.output("all", name, "hello")
        story.finished("all", name, "failed" if name in ("step-7", "step-19999") else "succeeded")
    story.ended("failed", succeeded=19_998, failed=2)
    begun = time.monotonic()
    view = live(screen)
    for event in story.events:
        view.event(event)
    view.close()
    took = time.monotonic() - begun
    written = screen.end()
    assert written.count("\x1b[J") <= took / 0.1 + 2
    assert seen(written, 80) == [*shown(story.events).splitlines(), ""], "what stays is what a pipe gets"


def test_a_terminal_that_went_away_is_told_to_the_one_who_brings_events(screen: Screen) -> None:
    story = Story()
    view = live(screen)
    view.event(story.accepted([("build", ["a"])]))
    screen.hang_up()

    def told() -> bool:
        try:
            view.event(story.started("build", "a"))
        except OSError:
            return True
        return False

    wait_until(told, "the view to notice that its terminal is gone")
    with pytest.raises(OSError, match="Input/output error"):
        view.close()
    screen.drop()


def test_without_a_cursor_to_move_the_terminal_gets_plain_lines(screen: Screen) -> None:
    view = listener_for(screen.stream, screen.stream, {"TERM": "dumb"}, json=False)
    for event in tutorial():
        view.event(event)
    view.close()
    written = screen.end()
    assert "\x1b" not in written
    assert written.endswith("1 succeeded · 0 failed · 0 skipped\n")


def test_colours_are_for_terminals_and_no_color_takes_them_away() -> None:
    for environ, colours in ((XTERM, True), ({**XTERM, "NO_COLOR": "1"}, False), ({**XTERM, "NO_COLOR": ""}, True)):
        screen = Screen()
        view = listener_for(screen.stream, screen.stream, environ, json=False)
        for event in tutorial():
            view.event(event)
        view.close()
        assert ("\x1b[32m✓\x1b[0m" in screen.end()) is colours
