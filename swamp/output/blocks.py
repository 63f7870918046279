"""The lines that stay: a block for every ended step, and the summary. Pure.

build                                                           ✓echo-on-worker
│ executed on a worker
── @swamp/workflow-summary ─────────────────────────────────
# remote-demo: succeeded

1 succeeded · 0 failed · 0 skipped
"""

from __future__ import annotations

from shlex import quote

from swamp.output.fields import number_of, text_of
from swamp.output.paint import Colour, Paint
from swamp.output.progress import StepProgress
from swamp.output.text import harmless, output_lines, width
from swamp.workflows.events import Event

_SUMMARY_COLUMNS = 60
_GLYPHS = {
    "succeeded": ("✓", Colour.GOOD),
    "failed": ("✗", Colour.BAD),
    "canceled": ("✗", Colour.ODD),
    "skipped": ("─", Colour.FAINT),
}
_REASONS = {"failed": "Error", "canceled": "Canceled", "skipped": "Skipped"}


def step_block(step: StepProgress, event: Event, run: str, columns: int, paint: Paint) -> list[str]:
    """The block of a step that `event` ended, its first line one column narrower than `columns`.

    Names that do not fit make that line longer; output lines are as long as they are.
    """
    status = text_of(event, "status")
    glyph, colour = _GLYPHS.get(status, ("○", Colour.ODD))
    if status == "canceled" and event.get("durationMs") is None:
        glyph = "─"  # it never began
    job, name = harmless(step.job), harmless(step.step)
    gap = max(2, columns - 1 - width(job) - width(glyph) - width(name))
    bar = paint("│", Colour.FAINT) + " "
    lines = [f"{job}{' ' * gap}{paint(glyph, colour)}{name}"]
    if step.tail is not None:
        if step.tail.left_out:
            command = f"swamp workflow history logs {harmless(run)} --step {quote(f'{job}/{name}')}"
            lines.append(f"{bar}… {step.tail.left_out:,} earlier lines: {command}")
        lines += [f"{bar}{line}" for text in step.tail.lines for line in output_lines(text)]
    error = text_of(event, "error")
    if error:
        first, *more = output_lines(error)
        reason = _REASONS.get(status, "Note")
        lines += [bar + paint(f"{reason}: {first}", colour), *(bar + paint(line, colour) for line in more)]
    return lines


def summary_block(workflow: str, event: Event, paint: Paint) -> list[str]:
    """The summary of a run that `event` ended."""
    status = text_of(event, "status")
    _, colour = _GLYPHS.get(status, ("○", Colour.ODD))
    counts = [f"{number_of(event, word) or 0:,} {word}" for word in ("succeeded", "failed", "skipped")]
    if number_of(event, "canceled"):
        counts.append(f"{number_of(event, 'canceled'):,} canceled")
    return [
        "── @swamp/workflow-summary ".ljust(_SUMMARY_COLUMNS, "─"),
        f"# {harmless(workflow)}: {paint(harmless(status), colour)}",
        "",
        " · ".join(counts),
    ]
