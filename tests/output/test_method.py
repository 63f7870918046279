"""How `model method run` shows a single method."""

from __future__ import annotations

import io

from swamp.output.method import MethodEnd, MethodView
from swamp.workflows.events import Event
from tests.output.events import Story
from tests.output.screen import Screen


def method_run(status: str = "succeeded", error: str | None = None) -> list[Event]:
    story = Story("")
    story.accepted([("remote-echo", ["execute"])])
    story.started("remote-echo", "execute")
    story.output("remote-echo", "execute", "out 1\nout 2\x1b[H")
    story.output("remote-echo", "execute", "err 1", stream="stderr")
    story.finished("remote-echo", "execute", status, error)
    story.ended(status, error)
    return story.events


def show(stream: io.StringIO, talk: io.StringIO, events: list[Event]) -> MethodEnd:
    view, end = MethodView(stream, talk, {}), MethodEnd()
    for event in events:
        view.event(event)
        end.event(event)
    view.ended("remote-echo", "execute", end)
    return end


def test_a_pipe_gets_stdout_as_it_is_and_everything_else_is_talk() -> None:
    stream, talk = io.StringIO(), io.StringIO()
    end = show(stream, talk, method_run())
    assert stream.getvalue() == "out 1\nout 2\x1b[H\n"
    assert talk.getvalue() == "err 1\n✓ remote-echo execute succeeded in 12ms\n"
    assert (end.run, end.status, end.duration_ms) == ("5d3c", "succeeded", 12)


def test_a_terminal_gets_it_harmless() -> None:
    screen = Screen()
    view = MethodView(screen.stream, screen.stream, {"TERM": "dumb"})
    for event in method_run():
        view.event(event)
    assert screen.end() == "out 1\nout 2\\x1b[H\nerr 1\n"


def test_a_failure_says_why() -> None:
    talk = io.StringIO()
    show(io.StringIO(), talk, method_run("failed", "Command exited with code 3"))
    assert talk.getvalue().endswith("✗ remote-echo execute failed in 12ms: Command exited with code 3\n")
