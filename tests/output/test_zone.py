"""The zone below the lines that stay: what it shows, and that it always fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swamp.output.paint import plain
from swamp.output.progress import Progress
from swamp.output.text import clip, duration, width
from swamp.output.zone import zone
from swamp.workflows.events import Event
from tests.output.events import Story


def progress_of(events: list[Event]) -> Progress:
    progress = Progress()
    for event in events:
        progress.apply(event, 0.0)
    return progress


def busy() -> Story:
    story = Story()
    story.accepted([("build", ["compile", "test", "sign", "ship"])], target="build-node")
    story.started("build", "compile", "build-node", "build-node")
    story.output("build", "compile", "one\ntwo\nthree\n\x1b[2Jfour")
    story.queued("build", "test", "build-node")
    return story


def test_the_zone_shows_what_runs_with_its_last_lines_and_what_waits() -> None:
    assert zone(progress_of(busy().events), 12.4, 4.0, 60, 24, plain) == [
        "── remote-demo ─────────────────────────────── 0 of 4 · 12s",
        "▸ build/compile · build-node · 4s",
        "│ two",
        "│ three",
        "│ \\x1b[2Jfour",
        "○ 1 queued for build-node · 2 waiting for other steps",
    ]


def test_a_low_terminal_drops_the_peeks_first_then_the_steps_and_at_last_everything() -> None:
    story = busy()
    story.started("build", "sign", "build-node", "build-node")
    progress = progress_of(story.events)

    def drawn(rows: int) -> list[str]:
        return [line.split(" · ")[0] for line in zone(progress, 1, 1, 60, rows, plain)][1:]

    assert drawn(12) == ["▸ build/compile", "│ \\x1b[2Jfour", "▸ build/sign", "○ 1 queued for build-node"]
    assert drawn(8) == ["▸ build/compile", "▸ build/sign", "○ 1 queued for build-node"]
    assert drawn(6) == ["▸ 2 running", "○ 1 queued for build-node"]
    assert drawn(4) == ["○ 1 queued for build-node"]
    assert drawn(2) == []
    assert zone(progress, 1, 1, 60, 1, plain) == []
    assert zone(progress, 1, 1, 8, 24, plain) == []


def test_more_steps_than_fit_are_counted() -> None:
    story = Story()
    story.accepted([("all", [f"s{n}" for n in range(2000)])])
    for number in range(2000):
        story.started("all", f"s{number}")
    lines = zone(progress_of(story.events), 0, 0, 80, 12, plain)
    assert len(lines) == 6
    assert lines[-1] == "▸ … and 1,996 more running"


def test_a_step_queued_once_more_waits_again_and_keeps_its_output() -> None:
    story = busy()
    story.queued("build", "compile", "build-node")
    progress = progress_of(story.events)
    assert not progress.running
    assert progress.queued_by_target == {"build-node": 2}
    assert progress.queued["build", "compile"].tail is not None
    story.started("build", "test", "build-node")
    assert progress_of(story.events).queued_by_target == {"build-node": 1}


@given(
    st.integers(0, 200),
    st.integers(0, 60),
    st.text(max_size=300),
    st.text(max_size=50),
    st.integers(0, 8),
)
def test_whatever_the_size_and_the_text_no_line_reaches_the_edge_and_half_the_screen_stays_free(
    columns: int, rows: int, printed: str, name: str, steps: int
) -> None:
    story = Story(name)
    story.accepted([(name, [str(number) for number in range(steps + 2)])], target=name)
    for number in range(steps):
        story.started(name, str(number), name, name)
        story.output(name, str(number), printed)
    story.queued(name, str(steps), name)
    lines = zone(progress_of(story.events), 1.0, 1.0, columns, rows, plain)
    assert len(lines) <= rows // 2
    for line in lines:
        assert width(line) < columns
        assert "\n" not in line
        assert "\x1b" not in line
        assert "\t" not in line


@given(st.text(alphabet=st.sampled_from("ab構🎉\u0301é"), max_size=60), st.integers(0, 50))
def test_clipped_text_fits_and_text_that_fits_is_left_alone(text: str, columns: int) -> None:
    clipped = clip(text, columns)
    assert width(clipped) <= columns
    assert clipped == text or width(text) > columns or len(text) > 4 * columns


def test_durations_are_short_at_every_size() -> None:
    assert [duration(ms) for ms in (0, 12, 999, 1000, 59_940, 59_950, 60_000, 125_000, 3_600_000, 11_220_000)] == [
        "0ms", "12ms", "999ms", "1.0s", "59.9s", "1m00s", "1m00s", "2m05s", "1h00m", "3h07m",
    ]  # fmt: skip
