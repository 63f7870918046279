"""What `swamp worker list` and `swamp worker queue` are told, looked at in the core's thread."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from itertools import islice

from swamp.clock import iso
from swamp.orchestrator.core import Core
from swamp.orchestrator.members import Member


def workers(core: Core) -> list[dict[str, object]]:
    """Every machine of a live token, by name."""
    return [
        {
            "name": member.worker,
            "target": member.target,
            "machine": member.machine,
            "status": status(member, drained=member.machine in core.membership.drained),
            "slotsUsed": len(member.running),
            "slotsTotal": member.slots,
            "platform": member.platform,
            "lastSeenAt": member.last_seen_at,
            "running": sorted(member.running),
            "drainedAt": iso(why.at) if (why := core.membership.drained.get(member.machine)) else None,
            "note": why.note if why else "",
        }
        for member in sorted(core.members.values(), key=lambda member: (member.worker, member.machine))
    ]


def status(member: Member, *, drained: bool) -> str:
    if not member.connected:
        return "disconnected"
    if member.delivering:
        return "delivering"
    if drained:
        return "draining" if member.running else "drained"
    if member.draining:
        return "draining"
    return "busy" if member.running else "idle"


def queue(core: Core, most: int, now: datetime) -> dict[str, object]:
    """What waits, the first `most` of each target, and how many there are in all."""
    ticks = time.monotonic()
    waiting: list[dict[str, object]] = []
    total = 0
    for target, lane in sorted(core.ledger.lanes.items()):
        total += len(lane.queued)
        if not lane.queued:
            continue
        why = _why_it_waits(core, target)
        for dispatch, since in islice(lane.queued.items(), most):
            live = core.ledger.live[dispatch]
            granted = core.members.get(live.granted)
            run = core.engine.runs[live.run_id]
            step = run.plan.steps[live.position]
            waiting.append(
                {
                    "target": target,
                    "dispatch": dispatch,
                    "run": live.run_id,
                    "workflow": run.plan.workflow_name,
                    "job": run.plan.jobs[step.job].name,
                    "step": step.name,
                    "since": iso(now - timedelta(seconds=ticks - since)),
                    "why": f"worker {granted.worker} is about to begin it" if granted is not None else why,
                }
            )
    return {"waiting": waiting, "total": total}


def _why_it_waits(core: Core, target: str) -> str:
    if not core.transport.up:
        return "Redis is away"
    machines = [member for member in core.members.values() if member.target == target]
    connected = [member for member in machines if member.connected]
    if not connected:
        return "no worker is connected" if machines else "no worker has ever joined"
    taking = [
        member
        for member in connected
        if not (member.draining or member.delivering or member.machine in core.membership.drained)
    ]
    if not taking:
        over = any(member.delivering for member in connected)
        return "the target's token has expired" if over else "every worker is draining or drained"
    slots = sum(member.slots for member in taking)
    if sum(len(member.running) for member in taking) >= slots:
        return f"all {slots} slots are busy" if slots > 1 else "the only slot is busy"
    return "it is about to be taken"
