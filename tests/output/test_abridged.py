"""Runs of many steps: a person sees how far they are and what went wrong, and not a line for each step."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swamp.clock import from_iso, iso
from swamp.output.abridged import BRISK, MANY_STEPS, PARTS, SHOWN_LINES, SHOWN_STEPS, SLOW, is_due, went_wrong
from swamp.output.progress import KEPT_LINES
from swamp.workflows.events import Event
from tests.output.events import Story
from tests.output.test_tree import shown

BEGIN = datetime(2026, 6, 15, 11, 34, tzinfo=UTC)
HOW_FAR = re.compile(r"── ([0-9,]+) of ([0-9,]+) steps ended: (.*)")


class LongStory(Story):
    """A run whose steps are called 1, 2, 3 …; its time goes on only as it is told to."""

    def __init__(self, steps: int) -> None:
        super().__init__("nightly")
        self.seconds = 0.0
        self.steps = steps
        self.last = 0
        self.accepted([("build", map(str, range(1, steps + 1)))])

    def add(self, kind: str, **fields: object) -> Event:
        event = super().add(kind, **fields)
        event["time"] = iso(BEGIN + timedelta(seconds=self.seconds))
        return event

    def step(self, status: str = "succeeded", error: str | None = None, took: int | None = 12, text: str = "") -> Event:
        """The next step ends, after it printed `text`."""
        self.last += 1
        if text:
            self.output("build", str(self.last), text)
        return self.finished("build", str(self.last), status, error, took)

    def how_far(self) -> list[str]:
        return [line for line in shown(self.events).splitlines() if HOW_FAR.fullmatch(line)]


def names_shown(text: str) -> list[str]:
    return re.findall(r"^build +[✓✗─](\d+)$", text, re.MULTILINE)


def test_what_a_person_sees_of_a_long_run() -> None:
    story = LongStory(3_000)
    for number in range(1, 3_001):
        story.seconds += 0.001
        if number == 700:
            story.step("failed", "Command exited with code 2", text="cc1: out of memory\ngiving up")
        elif number == 2_999:
            story.step("canceled", "canceled: it took longer than 5s", text="still waiting")
        elif number == 3_000:
            story.step("skipped", took=None)
        else:
            story.step(text="fine")
    story.ended("failed", "build/700: Command exited with code 2", succeeded=2_997, failed=1, skipped=1, canceled=1)
    assert shown(story.events) == (
        "── 3,000 steps: those that succeed are counted here, not shown.\n"
        "── What they print: swamp workflow logs 5d3c\n"
        "build                                                                      ✗700\n"
        "│ cc1: out of memory\n"
        "│ giving up\n"
        "│ Error: Command exited with code 2\n"
        "── 1,000 of 3,000 steps ended: 999 succeeded, 1 failed\n"
        "── 2,000 of 3,000 steps ended: 1,999 succeeded, 1 failed\n"
        "build                                                                     ✗2999\n"
        "│ still waiting\n"
        "│ Canceled: canceled: it took longer than 5s\n"
        "── 3,000 of 3,000 steps ended: 2,997 succeeded, 1 failed, 1 skipped, 1 canceled\n"
        "── @swamp/workflow-summary ─────────────────────────────────\n"
        "# nightly: failed\n"
        "\n"
        "2,997 succeeded · 1 failed · 1 skipped · 1 canceled\n"
    )


def test_a_run_is_long_above_the_limit_and_not_at_it() -> None:
    for steps, blocks in ((MANY_STEPS, MANY_STEPS), (MANY_STEPS + 1, 0)):
        story = LongStory(steps)
        for _ in range(steps):
            story.seconds += 10
            story.step()
        text = shown(story.events)
        assert len(names_shown(text)) == blocks
        assert ("steps ended" in text) is (blocks == 0)


def test_every_step_that_went_wrong_is_told_until_there_are_too_many_and_then_where_they_are() -> None:
    story = LongStory(1_000)
    for _ in range(1_000):
        story.step("failed", "Command exited with code 2")
    story.ended("failed", failed=1_000)
    lines = shown(story.events).splitlines()
    assert names_shown("\n".join(lines)) == [str(number) for number in range(1, SHOWN_STEPS + 1)]
    assert lines[2 + 2 * SHOWN_STEPS :] == [
        "── 50 steps that did not succeed are shown; from here on they are counted.",
        "── All of them: swamp workflow history get 5d3c",
        "── @swamp/workflow-summary ─────────────────────────────────",
        "# nightly: failed",
        "",
        "0 succeeded · 1,000 failed · 0 skipped",
    ]


def test_steps_that_print_much_and_fail_do_not_hide_the_errors_of_others() -> None:
    story = LongStory(1_000)
    flood = "\n".join(map(str, range(KEPT_LINES)))
    story.step("failed", "the first", text=flood)
    story.step("failed", "the second", text=flood)
    story.step("failed", "the third")
    lines = shown(story.events).splitlines()[2:]
    assert len(lines) < SHOWN_LINES + 10
    assert lines[1 : KEPT_LINES + 2] == [*(f"│ {number}" for number in range(KEPT_LINES)), "│ Error: the first"]
    assert [line for line in lines[KEPT_LINES + 2 :] if line.startswith("│")] == [
        "│ … 1,000 earlier lines: swamp workflow history logs 5d3c --step build/2",
        "│ Error: the second",
        "│ Error: the third",
    ]


@pytest.mark.parametrize(
    ("status", "error", "took", "told"),
    [
        ("succeeded", None, 12, False),
        ("failed", "Command exited with code 2", 12, True),
        ("failed", None, None, True),
        ("skipped", None, None, False),  # what it depends on failed, and was told
        ("skipped", "the target is gone", None, True),
        ("canceled", None, None, False),  # it never began, because the run was canceled
        ("canceled", "the run was canceled", 12, True),
        ("canceled", None, 12, True),
        ("of tomorrow", None, None, True),
    ],
)
def test_what_the_counts_do_not_tell_is_told(status: str, error: str | None, took: int | None, told: bool) -> None:
    event = LongStory(1_000).step(status, error, took)
    assert went_wrong(event) is told


def test_a_slow_run_is_not_silent_and_a_clock_set_back_does_not_make_it_so() -> None:
    story = LongStory(100_000)
    for seconds in (59, 60, 61, -3_540, -3_480):
        story.seconds = seconds
        story.step()
    assert story.how_far() == [f"── {ended} of 100,000 steps ended: {ended} succeeded" for ended in (2, 4, 5)]


def test_times_that_are_none_are_passed_over() -> None:
    story = LongStory(1_000)
    for time in (None, "yesterday", "", 7):
        story.step()["time"] = time
    story.seconds = 100
    story.step()
    assert story.how_far() == ["── 5 of 1,000 steps ended: 5 succeeded"]


@given(st.integers(0, 10_000), st.integers(MANY_STEPS + 1, 1_000_000), st.floats(0, 1e6))
def test_how_far_is_said_once_in_a_second_at_most(steps: int, of: int, seconds: float) -> None:
    due = is_due(steps, of, seconds)
    assert due or seconds < SLOW
    assert not due or seconds >= BRISK
    assert not due or seconds >= SLOW or steps >= of / PARTS


ENDINGS = st.tuples(
    st.integers(1, 60),
    st.sampled_from(["succeeded", "succeeded", "failed", "skipped", "canceled"]),
    st.floats(0, 20),
)


@given(st.lists(ENDINGS, max_size=40))
def test_however_a_long_run_goes_its_screen_is_short_and_what_it_says_is_true(
    endings: list[tuple[int, str, float]],
) -> None:
    """`endings`: so many steps end so, one after the other with so many seconds between."""
    story = LongStory(40 * 60)
    wrong: list[str] = []
    for count, status, gap in endings:
        for _ in range(count):
            story.seconds += gap
            if went_wrong(story.step(status, "why" if status == "failed" else None)):
                wrong.append(str(story.last))
    text = shown(story.events)
    assert names_shown(text) == wrong[:SHOWN_STEPS]
    assert ("from here on they are counted" in text) is (len(wrong) > SHOWN_STEPS)

    ends = [event for event in story.events if event["kind"] == "step-finished"]
    said = [HOW_FAR.fullmatch(line) for line in story.how_far()]
    assert len(said) <= PARTS + story.seconds / SLOW
    before = BEGIN
    for match in said:
        assert match is not None
        ended = int(match[1].replace(",", ""))
        now = from_iso(str(ends[ended - 1]["time"]))
        assert (now - before).total_seconds() >= BRISK
        before = now
        statuses = [event["status"] for event in ends[:ended]]
        counts = {word: int(number.replace(",", "")) for number, word in map(str.split, match[3].split(", "))}
        assert counts == {word: statuses.count(word) for word in set(statuses)}
