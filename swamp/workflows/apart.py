"""Plans of big workflows, made in a process of their own.

Reading a workflow of 100,000 steps takes seconds, during which no other thread of this process would get far, and 300
MB, which Python would not give back to the system: the few texts that stay lie scattered among all that goes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from swamp.repo import Repo
from swamp.workflows.catalog import find_workflow_file
from swamp.workflows.local import plan_of_workflow
from swamp.workflows.plan import Plan, plan_from_json

BIG = 256 * 1024  #: bytes of a file that is read apart; a smaller one is read sooner than a process starts


def plan_apart(repo: Repo, name: str) -> Plan:
    """As `plan_of_workflow`, for a process that has better things to do and lives long."""
    if find_workflow_file(repo, name).stat().st_size < BIG:
        return plan_of_workflow(repo, name)
    # -P: what lies in the directory that we were started in is no part of Swamp.
    command = [sys.executable, "-P", "-m", "swamp.workflows.apart", str(repo.root), name]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if done.returncode != 0:
        return plan_of_workflow(repo, name)  # which says what is wrong
    return plan_from_json(done.stdout.decode())


if __name__ == "__main__":
    sys.stdout.write(plan_of_workflow(Repo(Path(sys.argv[1])), sys.argv[2]).to_json())
