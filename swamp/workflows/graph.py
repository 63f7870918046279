"""Graphs of names: `edges[a]` lists what `a` waits for. Pure, and without recursion, for chains may be long."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping

Edges = Mapping[str, Collection[str]]


def find_cycle(edges: Edges) -> list[str] | None:
    """A way from a name back to itself, `[a, b, a]`: each one waits for the next. None when there is none.

    The first name of `edges` that lies on a cycle begins the answer's search, so the answer is the same every time.
    Names that only occur as ends of edges need no entry.
    """
    finished: set[str] = set()
    for start in edges:
        if start in finished:
            continue
        path: list[str] = []
        on_path: dict[str, int] = {}
        ahead: list[Iterator[str]] = [iter((start,))]
        while ahead:
            name = next(ahead[-1], None)
            if name is None:
                ahead.pop()
                if path:
                    done = path.pop()
                    del on_path[done]
                    finished.add(done)
            elif name in on_path:
                return [*path[on_path[name] :], name]
            elif name not in finished:
                on_path[name] = len(path)
                path.append(name)
                ahead.append(iter(edges.get(name, ())))
    return None


def topological_order(edges: Edges) -> list[str]:
    """All names, each after everything it waits for; apart from that in the order of `edges`, as far as that goes.

    Raises `ValueError` with a cycle, if there is one.
    """
    waits_for: dict[str, set[str]] = {name: set(needs) for name, needs in edges.items()}
    for needs in edges.values():
        for name in needs:
            waits_for.setdefault(name, set())
    waited_for_by: dict[str, list[str]] = {name: [] for name in waits_for}
    for name, unmet in waits_for.items():
        for need in unmet:
            waited_for_by[need].append(name)
    ready = deque(name for name, unmet in waits_for.items() if not unmet)
    order: list[str] = []
    while ready:
        name = ready.popleft()
        order.append(name)
        for follower in waited_for_by[name]:
            waits_for[follower].discard(name)
            if not waits_for[follower]:
                ready.append(follower)
    if len(order) < len(waits_for):
        raise ValueError(" -> ".join(find_cycle(edges) or ()))
    return order
