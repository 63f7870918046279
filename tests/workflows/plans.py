"""Plans for tests: built by hand from a few words, or drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

from swamp.models.invocation import Invocation
from swamp.workflows.plan import Plan, PlannedJob, PlannedStep

CONDITIONS = ("succeeded", "failed", "completed", "skipped", "always")

CALL = Invocation("id-of-echo", "echo", "command/shell", "execute", {"run": "echo"}, {"team": "blue"})

#: Positions or indices, each with its condition.
Edges = Sequence[tuple[int, str]]


def plan(
    jobs: Sequence[Sequence[Edges]],
    job_edges: Mapping[int, Edges] | None = None,
    *,
    concurrency: int = 0,
    job_concurrency: Mapping[int, int] | None = None,
    targets: Sequence[str] = ("",),
    lost: Sequence[str] = ("fail",),
    call: Invocation = CALL,
) -> Plan:
    """A plan of `jobs`, each a list of its steps' edges; positions in edges count from the job's first step.

    Step n is placed on `targets[n % len(targets)]`, and says `onWorkerLost: lost[n % len(lost)]`.
    """
    planned_jobs: list[PlannedJob] = []
    steps: list[PlannedStep] = []
    for index, job in enumerate(jobs):
        first = len(steps)
        for number, edges in enumerate(job):
            target, policy = targets[len(steps) % len(targets)], lost[len(steps) % len(lost)]
            absolute = tuple((first + on, condition) for on, condition in edges)
            steps.append(PlannedStep(f"step-{number}", index, target, 0, absolute, policy))
        limit = (job_concurrency or {}).get(index, 0)
        planned_jobs.append(PlannedJob(f"job-{index}", first, len(job), limit, tuple((job_edges or {}).get(index, ()))))
    return Plan("workflow", "id-of-flow", "flow", concurrency, tuple(planned_jobs), tuple(steps), (call,))


@st.composite
def _edges(draw: st.DrawFn, size: int) -> list[list[tuple[int, str]]]:
    """For each of `size` things, what it waits for: no circles, but in any order."""
    order = draw(st.permutations(range(size)))
    edges: list[list[tuple[int, str]]] = [[] for _ in range(size)]
    for rank, one in enumerate(order):
        if rank:
            before = draw(st.lists(st.sampled_from(order[:rank]), unique=True, max_size=3))
            edges[one] = [(other, draw(st.sampled_from(CONDITIONS))) for other in before]
    return edges


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Up to four jobs of up to four steps, with edges and limits of every kind."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    limits = st.sampled_from([0, 0, 1, 2])
    return plan(
        [draw(_edges(size)) for size in sizes],
        dict(enumerate(draw(_edges(len(sizes))))),
        concurrency=draw(limits),
        job_concurrency={index: draw(limits) for index in range(len(sizes))},
        targets=draw(st.sampled_from([("",), ("here",), ("", "here")])),
    )
