"""The run for programs."""

from __future__ import annotations

import io
import json

from swamp.output.choose import listener_for
from tests.output.events import Story, tutorial


def test_every_event_is_one_line_and_comes_back_as_it_was() -> None:
    story = Story()
    story.events = tutorial()
    story.add("kind-of-tomorrow", text="line\nbreak\u2028\x85\r\x1b[H ✓ \ud800")
    stream, talk = io.StringIO(), io.StringIO()
    view = listener_for(stream, talk, {"TERM": "xterm"}, json=True)
    for event in story.events:
        view.event(event)
    view.note("said beside")
    view.close()
    lines = stream.getvalue().splitlines()
    assert [json.loads(line) for line in lines] == story.events
    assert stream.getvalue().isascii()
    assert talk.getvalue() == "said beside\n"
