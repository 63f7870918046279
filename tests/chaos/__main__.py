"""`make chaos`: every experiment, long, from one seed. Prints the seed, what was hit, and a verdict per promise."""

from __future__ import annotations

import argparse
import faulthandler
import random
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.chaos.bounds import bounds
from tests.chaos.experiments import frozen, handed_over, restarts, rolling, storm, unbegun
from tests.chaos.judging import Report
from tests.chaos.losses import losses
from tests.chaos.points import POINTS
from tests.chaos.promoted import promoted
from tests.chaos.torn import torn
from tests.processes import environment

PROMISES = {
    "points": "at every point something was killed",
    "G1": "a run that was accepted ends",
    "G2": "no step runs for ever; losses are noticed within 15 s, retried within 20 s (p99)",
    "G3": "at most once, or at least once",
    "G4": "one result for each step",
    "G5": "a worker that was away changes nothing",
    "G6": "trouble with Redis, networks and disks passes: no process exits, nothing is lost or doubled",
    "G7": "the orchestrator may be restarted while steps run",
    "G8": "stopping is clean",
    "G9": "canceling ends everything that a step started",
    "G10": "a killed worker leaves nothing running",
    "G11": "memory and keys are bounded",
    "G12": "first come, first served",
}


ROOT = Path(__file__).parents[2]
LASTS = 20  #: seconds that each trouble of G6 lasts: longer than it takes to miss a machine


def named(promise: str) -> Report:
    """The tests that `docs/guarantees.md` names for a promise, but those that only another command runs. Their stories
    are the same every time."""
    text = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {promise}. ")[2].partition("\n## ")[0]
    tests = re.findall(r"^- `(tests/[\w/]+\.py::\w+)`(?! \(only in)", section, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-n", "2", "-p", "no:cacheprovider", *tests],
        env=environment({"FAULTS_OUTAGE": str(LASTS)}), cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    report = Report(figures=[f"{len(tests)} tests of {promise}"])
    report.judge(promise, [] if done.returncode == 0 else [done.stdout[-3000:] + done.stderr[-1000:]])
    report.judge(promise, re.findall(r"^SKIPPED .*", done.stdout, re.MULTILINE))  # what was not tried was not kept
    return report


def stories(promises: tuple[str, ...], test: str, seed: int, count: int) -> Report:
    """So many of the stories that a state machine of the tests tells, from this seed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--hypothesis-seed={seed}", test],
        env=environment({"STORIES": str(count)}), cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    report = Report(figures=[f"{count} stories of {test}"])
    for promise in promises:
        report.judge(promise, [] if done.returncode == 0 else [done.stdout[-3000:] + done.stderr[-1000:]])
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="what all chance comes from (default: a new one)")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the storm lasts (default: 10)")
    parser.add_argument("--rounds", type=int, default=18, help="how many losses are timed (default: 18)")
    parser.add_argument("--steps", type=int, default=200_000, help="how many steps memory is watched over")
    parser.add_argument(
        "--only",
        default="",
        help="some experiments: storm,torn,promoted,resets,messages,losses,frozen,unbegun,handover,restarts,rolling,"
        "bounds,troubles,canceled,killed,order",
    )
    options = parser.parse_args()
    faulthandler.register(signal.SIGUSR1)  # to see where it stands, if it seems to stand still
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    names = [point.name for point in POINTS]
    experiments: dict[str, Callable[[], Report]] = {
        "storm": lambda: storm(seed, names, options.minutes * 60, calm=6.0, until_hit=False, width=24),
        "torn": lambda: torn(seed, options.minutes * 30),
        "promoted": lambda: promoted(seed, 2),
        "resets": partial(named, "G3"),
        "messages": lambda: stories(("G3", "G4"), "tests/orchestrator/test_intake.py::TestTrouble", seed, 1500),
        "losses": lambda: losses(seed, options.rounds),
        "frozen": frozen,
        "unbegun": unbegun,
        "handover": handed_over,
        "restarts": lambda: restarts(seed, 20),
        "rolling": lambda: rolling(seed, 4),
        "bounds": lambda: bounds(options.steps),
        "troubles": partial(named, "G6"),
        "canceled": partial(named, "G9"),
        "killed": partial(named, "G10"),
        "order": lambda: stories(("G12",), "tests/orchestrator/test_order.py", seed, 150),
    }
    chosen = options.only.split(",") if options.only else list(experiments)
    if unknown := [name for name in chosen if name not in experiments]:
        parser.error(f"there is no experiment '{unknown[0]}'; there are {', '.join(experiments)}")
    print(f"seed {seed}   (again: make chaos CHAOS_ARGS='--seed {seed}')", flush=True)
    verdicts: dict[str, list[str]] = {}
    for name in chosen:
        begin = time.monotonic()
        print(f"\n{name} …", flush=True)
        try:
            report = experiments[name]()
        except Exception as failed:  # what it waited for never came, or worse: the others are judged all the same
            traceback.print_exc(file=sys.stdout)
            report = Report({name: [f"{type(failed).__name__}: {failed}"]})
        for figure in report.figures:
            print(f"  {figure}")
        print(f"  {time.monotonic() - begin:.0f} s", flush=True)
        for promise, problems in report.verdicts.items():
            verdicts.setdefault(promise, []).extend(f"{name}: {problem}" for problem in problems)
    if not options.only:
        for promise in PROMISES.keys() - verdicts.keys():
            verdicts[promise] = ["no experiment has judged it"]
    print()
    for promise, meaning in {**PROMISES, **dict.fromkeys(chosen, "an experiment that did not come to its end")}.items():
        if promise in verdicts:
            problems = verdicts[promise]
            print(f"{'BROKEN' if problems else 'kept':6}  {promise:8}  {meaning}")
            for problem in problems[:10]:
                print(f"          {problem}")
    return 1 if any(verdicts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
