"""What the kernel says of processes: their processor time and their memory. Linux only, as all of the bench."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Group:
    """Processes that are counted together: `root` and its descendants, `without` some."""

    root: int
    without: tuple[int, ...] = ()


def cpu_seconds(group: Group) -> float:
    """Processor time so far; that of children which have ended and were waited for is in it."""
    total = 0
    for pid in _tree(group):
        fields = _stat(pid)
        if fields is not None:
            total += sum(int(field) for field in fields[11:15])
    return total / _TICKS


def resident_mb(group: Group) -> float:
    """Resident memory now, in MB; what processes share counts for each of them."""
    return _memory_mb(group, "VmRSS")


def proportional_mb(group: Group) -> float:
    """Resident memory now, in MB; what processes share (libraries, mostly) is divided among them."""
    kilobytes = 0
    for pid in _tree(group):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # ended meanwhile
        kilobytes += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return kilobytes * 1024 / 1e6


def peak_mb(group: Group) -> float:
    """The most resident memory so far, in MB."""
    return _memory_mb(group, "VmHWM")


def children(pid: int) -> dict[int, str]:
    """Living children: process id to the name of the program."""
    return {child: name for child, (parent, name) in _everybody().items() if parent == pid}


class Meter:
    """Processor time of groups of processes, and of everybody else, between its making and `read`."""

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self._groups = groups
        self._begin = {name: cpu_seconds(group) for name, group in groups.items()}
        self._own = _own_seconds()
        self._machine = _machine_seconds()

    def read(self, more: Iterable[float] = ()) -> tuple[dict[str, float], float]:
        """Seconds by group, and the processors that others kept busy (0.5: half of one). `more` are the seconds of
        our own processes that have ended meanwhile and are in no group."""
        cpu = {name: cpu_seconds(group) - self._begin[name] for name, group in self._groups.items()}
        busy, passed = (now - then for now, then in zip(_machine_seconds(), self._machine, strict=True))
        ours = sum(cpu.values()) + sum(more) + _own_seconds() - self._own
        cores = os.cpu_count() or 1
        return cpu, max(0.0, busy - ours) / max(passed / cores, 0.001)


def ended_children_seconds() -> float:
    """Processor time of all processes of ours that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _machine_seconds() -> tuple[float, float]:
    """(busy, all) seconds of all processors since the machine started; what a hypervisor took counts as busy."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / _TICKS, sum(fields) / _TICKS


def _memory_mb(group: Group, field: str) -> float:
    kilobytes = 0
    for pid in _tree(group):
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue  # ended meanwhile
        kilobytes += next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)
    return kilobytes * 1024 / 1e6


def _tree(group: Group) -> list[int]:
    parents = {pid: parent for pid, (parent, _) in _everybody().items()}
    found = [group.root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid and child not in group.without]
    return found


def _everybody() -> dict[int, tuple[int, str]]:
    """Process id to its parent and the name of its program."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            fields = _stat(int(entry.name))
            if fields is not None:
                found[int(entry.name)] = (int(fields[1]), fields[-1])
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat behind the name, and the name at the end. None if the process has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    head, _, tail = text.rpartition(")")
    return [*tail.split(), head.partition("(")[2]]
