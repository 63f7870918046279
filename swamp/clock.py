"""Time as Swamp writes it: ISO 8601, UTC, milliseconds, `Z`; and durations as people type them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from swamp.errors import Invalid

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "mo": 30 * 86400, "y": 365 * 86400}
_DURATION = re.compile(r"([1-9][0-9]{0,9})(s|mo|m|h|d|w|y)")


def utc_now() -> datetime:
    """The present moment, in UTC. Decisions never call this; they take time as an argument."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """`2026-06-15T11:34:58.961Z`."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


class Timepiece:
    """Tells the present as `iso` writes it, to those who ask many times a second, from any thread. `clock` gives unix
    nanoseconds."""

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        # The second told last, and the begin of its text: writing that is what costs time. In one piece, because
        # another thread may be told another second meanwhile.
        self._last = (-1, "")

    def __call__(self) -> str:
        return self.text(self._clock())

    def text(self, moment: int) -> str:
        """Another moment (unix nanoseconds), near those that were asked for before."""
        second, milliseconds = divmod(moment // 1_000_000, 1000)
        last, begin = self._last
        if second != last:
            begin = datetime.fromtimestamp(second, UTC).isoformat()[:-6]
            self._last = (second, begin)
        return f"{begin}.{milliseconds:03d}Z"


#: The present moment as `iso` writes it. Decisions never call this; they take time as an argument.
iso_now = Timepiece()


def from_iso(text: str) -> datetime:
    """The inverse of `iso`. Raises `ValueError` for other text."""
    return datetime.fromisoformat(text)


def later(moment: str, seconds: float) -> str:
    """A moment so many seconds later, as `iso` writes it."""
    return moment if seconds < 0.001 else iso(from_iso(moment) + timedelta(seconds=seconds))


def parse_duration(text: str, of: str = "") -> timedelta:
    """A duration such as `90s`, `15m`, `1h`, `7d`, `2w`, `3mo` (30 days each) or `1y` (365 days).

    Raises `Invalid` for anything else, zero and a missing unit included; `of` names for people what it is for.
    """
    for_what = f" for {of}" if of else ""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise Invalid(
            f"'{text}' is not a duration{for_what}",
            hint="write a whole number and a unit, for example 90s, 15m, 1h, 7d, 2w, 3mo, 1y",
        )
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > 100 * _UNITS["y"]:
        raise Invalid(f"'{text}'{for_what} is longer than 100 years", hint="choose a shorter duration, for example 1y")
    return timedelta(seconds=seconds)


def duration_text(duration: timedelta) -> str:
    """The shortest text that `parse_duration` reads as this duration: `30s`, `90s`, `15m`, `1h`, `7d`.

    Parts of a second are rounded.
    """
    seconds = round(duration.total_seconds())
    unit, size = next(
        ((unit, size) for unit, size in (("d", 86400), ("h", 3600), ("m", 60)) if seconds % size == 0), ("s", 1)
    )
    return f"{seconds // size}{unit}"
