"""The secrets of steps: put into calls when they are dispatched, taken out of whatever comes back.

A worker redacts what it sends. This is the second time, for one that does not, before anything is stored or shown.
Values are in memory only, as long as their run is active.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from swamp.data.blobs import blob_path, read_blob
from swamp.data.record import Blob, Output
from swamp.errors import SwampError
from swamp.models.invocation import Invocation, Outcome
from swamp.models.redaction import RedactedLines, Redactor, is_too_short
from swamp.models.resolve import ReadSecret, resolve, secrets_of
from swamp.workflows.run import Run

log = logging.getLogger("swamp.orchestrator")


@dataclass(slots=True)
class _OfRun:
    values: dict[int, set[str]] = field(default_factory=dict)  # by call: all that any dispatch of it was given
    redactors: dict[int, Redactor | None] = field(default_factory=dict)  # by call
    lines: dict[tuple[str, str], RedactedLines] = field(default_factory=dict)  # by dispatch and stream


class StepSecrets:
    """`read` tells secrets; `blobs` is where big content lies. Used by the core thread only."""

    def __init__(self, read: ReadSecret, blobs: Path) -> None:
        self._read = read
        self._blobs = blobs
        self._runs: dict[str, _OfRun] = {}
        self._warned: set[tuple[str, str]] = set()

    def resolved(self, run: Run, position: int) -> Invocation:
        """The call of a step, as it is to be dispatched now. Raises `SwampError` or `OSError`."""
        index = run.plan.steps[position].call
        call = run.plan.calls[index]
        resolved = resolve(call, self._read)
        if resolved.secrets:
            kept = self._of(run)
            known = kept.values.setdefault(index, set())
            if not known.issuperset(resolved.secrets):
                known.update(resolved.secrets)
                kept.redactors[index] = Redactor(known)
                self._warn_of_short_ones(call)
        return resolved

    def output(self, run: Run, position: int, dispatch: str, stream: str, text: str) -> str | None:
        """What may be told of `text` (whole lines, without the last newline); None while that is nothing."""
        redactor = self._redactor(run, position)
        if redactor is None:
            return text
        lines = self._of(run).lines.setdefault((dispatch, stream), RedactedLines(redactor))
        said = lines.feed(text.encode("utf-8", "surrogatepass") + b"\n")
        return _shown(said) if said else None

    def rest(self, run: Run, dispatch: str) -> list[tuple[str, str]]:
        """What is held back of the output of a dispatch that has ended: stream and text."""
        lines = self._of(run).lines
        held = [(stream, lines.pop((dispatch, stream), None)) for stream in ("stdout", "stderr")] if lines else []
        return [(stream, _shown(said)) for stream, of in held if of is not None and (said := of.rest())]

    def outcome(self, run: Run, position: int, outcome: Outcome, is_stored: Callable[[str], bool]) -> Outcome:
        """`is_stored` tells whether data of this checksum are stored already. Raises `SwampError`."""
        return self._redacted(self._redactor(run, position), outcome, is_stored)

    def late_outcome(self, call: Invocation, outcome: Outcome, is_stored: Callable[[str], bool]) -> Outcome:
        """As `outcome`, for a run that has ended."""
        return self._redacted(self._made_anew(call), outcome, is_stored)

    def start_over(self) -> None:
        """What was said since the last commit will be said again."""
        for kept in self._runs.values():
            kept.lines.clear()

    def forget(self, run_id: str) -> None:
        """The run has ended."""
        self._runs.pop(run_id, None)

    def _of(self, run: Run) -> _OfRun:
        if run.id not in self._runs:
            self._runs[run.id] = _OfRun()
        return self._runs[run.id]

    def _redactor(self, run: Run, position: int) -> Redactor | None:
        redactors, index = self._of(run).redactors, run.plan.steps[position].call
        if index not in redactors:
            redactors[index] = self._made_anew(run.plan.calls[index])
        return redactors[index]

    def _made_anew(self, call: Invocation) -> Redactor | None:
        """For a call that was dispatched before the orchestrator was restarted: with the secrets as they are now."""
        values = []
        for reference in secrets_of(call):
            try:
                values.append(self._read(reference.vault, reference.key))
            except (SwampError, OSError) as error:
                log.warning("only its worker can redact what comes of model %s: %s", call.model_name, error)
        return Redactor(values) if values else None

    def _redacted(self, redactor: Redactor | None, outcome: Outcome, is_stored: Callable[[str], bool]) -> Outcome:
        if redactor is None:
            return outcome
        redacted = redactor.outcome(outcome)
        return replace(redacted, outputs=tuple(self._big(output, redactor, is_stored) for output in redacted.outputs))

    def _big(self, output: Output, redactor: Redactor, is_stored: Callable[[str], bool]) -> Output:
        """Content that came ahead lies in a file already: it goes, if it should have been redacted."""
        if not isinstance(output.content, Blob):
            return output
        checksum = output.content.checksum
        content = read_blob(self._blobs, checksum)
        redacted = redactor.output(replace(output, content=content))
        if redacted.content == content:
            return output
        if not is_stored(checksum):
            blob_path(self._blobs, checksum).unlink(missing_ok=True)
        return redacted

    def _warn_of_short_ones(self, call: Invocation) -> None:
        for reference in secrets_of(call):
            place = (reference.vault, reference.key)
            if place not in self._warned and is_too_short(self._read(*place)):
                self._warned.add(place)
                log.warning("secret '%s' of vault '%s' is too short to be redacted", reference.key, reference.vault)


def _shown(said: bytes) -> str:
    return said.decode("utf-8", "replace").removesuffix("\n")
