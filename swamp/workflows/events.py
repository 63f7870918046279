"""What happens in a run: one vocabulary for the terminal, `--json`, the stored history and every later screen. Pure.

An event is a flat JSON object. Every event has `run` (id), `seq` (1, 2, 3 … within the run, no gaps), `time`
(ISO 8601) and `kind`; the other fields depend on the kind:

run-accepted
    `workflow`, `runKind` (`workflow` or `method`), `jobs`: a list of `{name, steps}`, where `steps` is a list of
    `{name, target, model, modelType, method}` (`target` is "" where the step has none).
job-started
    `job`.
step-queued
    `job`, `step`, `target`, `dispatch`: placed; waits for a worker of its target.
step-started
    `job`, `step`, `target`, `machine`, `worker`: the last three are "" where the step runs beside the engine.
step-output
    `job`, `step`, `stream` (`stdout` or `stderr`), `text`: whole lines, joined by newlines, without the last one.
step-finished
    `job`, `step`, `status` (`succeeded`, `failed`, `canceled` or `skipped`), `error` (text or null), `durationMs`
    (or null), `data`: a list of `{name, version, specName}`.
job-finished
    `job`, `status`.
run-finished
    `status` (`succeeded`, `failed` or `canceled`), `error` (text or null), `durationMs`, and the step counts
    `succeeded`, `failed`, `skipped`, `canceled`. `error` is that of the first step that failed; of a run that was
    canceled because its time was over (`workflow run --timeout`) it is `the run took longer than 30s`.

A reader ignores kinds and fields that it does not know.
"""

from __future__ import annotations

Event = dict[str, object]
