"""Every Redis key: its name, type, writer, reader and end. The table is in `docs/protocol.md`.

Names of RQ's are written here instead of asked from RQ: importing it costs a worker 13 MB and 130 ms, and its prefix
follows an environment variable. A contract test holds them against the classes of every RQ version we support.
"""

from __future__ import annotations

LIBRARY = "swamp1"  #: the function library; a new protocol gets a new name, so that no code changes under old workers

QUEUES = "rq:queues"  #: set of queue keys; orchestrator → tools
WORKERS = "rq:workers"  #: set of worker keys; orchestrator → tools
BELL = "swamp:bell"  #: channel, no content; workers ring it for step events
ECHO = "swamp:echo"  #: string: what the orchestrator wrote last to see whether it comes back; orchestrator only
REPO = "swamp:repo"  #: hash: which repository owns this database, incarnation, marker; orchestrator only


def queue(target: str) -> str:
    """List of dispatch ids that wait. The orchestrator pushes right, workers claim from the left."""
    return f"rq:queue:{target}"


def job(dispatch: str) -> str:
    """Hash of a dispatch as an RQ job; its field `swamp` is the sealed dispatch."""
    return f"rq:job:{dispatch}"


def worker(name: str) -> str:
    """Hash of a worker, as RQ's tools read it."""
    return f"rq:worker:{name}"


def registry(kind: str, target: str) -> str:
    """Sorted set of job ids; `kind` is `wip`, `finished`, `failed` or `canceled`."""
    return f"rq:{kind}:{target}"


def claimed(machine: str) -> str:
    """List of dispatch ids that a machine has claimed and not begun."""
    return f"swamp:m:{machine}:claimed"


def up(machine: str) -> str:
    """Stream of sealed messages from a machine."""
    return f"swamp:m:{machine}:up"


def down(machine: str) -> str:
    """Stream of sealed messages to a machine."""
    return f"swamp:m:{machine}:down"


def results(machine: str) -> str:
    """Hash: dispatch id → sealed result; deleted field by field once on disk."""
    return f"swamp:m:{machine}:results"
