"""What a terminal shows below the lines that stay: the steps that run and the ones that wait. Pure.

── remote-demo ───────────────────────────── 3 of 10 · 12s
▸ build/compile · build-node · 4s
│ the last lines that it printed
○ 2 queued for build-node · 4 waiting for other steps
"""

from __future__ import annotations

from itertools import islice

from swamp.output.paint import Colour, Paint
from swamp.output.progress import Progress, StepProgress
from swamp.output.text import clip, duration, harmless, output_lines, width

_WIDEST = 80
_NARROWEST = 12
_PEEK = 3  #: output lines shown below a running step, room permitting
_TARGETS = 3


def zone(progress: Progress, elapsed: float, now: float, columns: int, rows: int, paint: Paint) -> list[str]:
    """The lines of the zone, none wider than `columns - 1` and no more than half of `rows`; none on a tiny terminal.

    `elapsed` is how long the run was watched, `now` the present of the clock that `progress` was fed with; seconds.
    """
    room = rows // 2
    columns -= 1
    if room < 1 or columns < _NARROWEST:
        return []
    lines = [paint(_head(progress, elapsed, columns), Colour.FAINT)]
    room -= 1
    waiting = _waiting(progress)
    if waiting and room > 0:
        room -= 1
    lines += _running(progress, now, columns, room, paint)
    if waiting and rows // 2 > 1:
        lines.append(clip(waiting, columns))
    return lines


def _head(progress: Progress, elapsed: float, columns: int) -> str:
    columns = min(columns, _WIDEST - 1)
    right = f" {progress.ended.total():,} of {progress.steps:,} · {_seconds(elapsed)}"
    left = clip(f"── {harmless(progress.workflow)} ", max(0, columns - width(right)))
    return clip(left + "─" * (columns - width(left) - width(right)) + right, columns)


def _running(progress: Progress, now: float, columns: int, room: int, paint: Paint) -> list[str]:
    count = len(progress.running)
    if not count or room < 1:
        return []
    shown = count if count <= room else room - 1
    peek = min(_PEEK, (room - shown) // shown) if count <= room else 0
    lines: list[str] = []
    for step in islice(progress.running.values(), shown):
        lines.append(clip(f"▸ {_title(step)} · {_seconds(now - step.since)}", columns))
        lines += [paint(clip(f"│ {line}", columns), Colour.FAINT) for line in _last_lines(step, peek)]
    if shown < count:
        lines.append(clip(f"▸ {'… and ' if shown else ''}{count - shown:,} {'more ' if shown else ''}running", columns))
    return lines


def _title(step: StepProgress) -> str:
    place = step.worker or step.target
    return harmless(f"{step.job}/{step.step}") + (f" · {harmless(place)}" if place else "")


def _last_lines(step: StepProgress, count: int) -> list[str]:
    if step.tail is None or not count:
        return []
    last = list(islice(reversed(step.tail.lines), count))
    return [line for text in reversed(last) for line in output_lines(text)]


def _waiting(progress: Progress) -> str:
    parts = [
        f"{count:,} queued for {harmless(target)}" if target else f"{count:,} queued"
        for target, count in islice(progress.queued_by_target.items(), _TARGETS)
    ]
    if len(progress.queued_by_target) > _TARGETS:
        parts.append(f"… and for {len(progress.queued_by_target) - _TARGETS:,} more targets")
    others = progress.steps - progress.ended.total() - len(progress.running) - len(progress.queued)
    if others > 0:
        parts.append(f"{others:,} waiting for other steps")
    return "○ " + " · ".join(parts) if parts else ""


def _seconds(seconds: float) -> str:
    return f"{int(seconds)}s" if seconds < 60 else duration(int(seconds) * 1000)
