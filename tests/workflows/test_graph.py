"""Cycles are found and shown; an order puts everything after what it waits for."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swamp.workflows.graph import find_cycle, topological_order

NAMES = st.sampled_from("abcdefgh")
GRAPHS = st.dictionaries(NAMES, st.lists(NAMES, max_size=4))
#: whatever waits only for names that come earlier in the alphabet cannot wait for itself
ACYCLIC = GRAPHS.map(lambda edges: {name: [need for need in needs if need < name] for name, needs in edges.items()})


@given(ACYCLIC)
def test_a_graph_without_a_cycle_has_none(edges: dict[str, list[str]]) -> None:
    assert find_cycle(edges) is None


@given(GRAPHS)
def test_a_found_cycle_is_a_way_along_edges_back_to_its_start(edges: dict[str, list[str]]) -> None:
    cycle = find_cycle(edges)
    if cycle is not None:
        assert len(cycle) >= 2
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        assert all(after in edges[before] for before, after in pairwise(cycle))


@given(GRAPHS)
def test_there_is_an_order_exactly_when_there_is_no_cycle(edges: dict[str, list[str]]) -> None:
    if find_cycle(edges) is None:
        order = topological_order(edges)
        assert set(order) == set(edges) | {need for needs in edges.values() for need in needs}
        assert len(order) == len(set(order))
        assert all(order.index(need) < order.index(name) for name, needs in edges.items() for need in needs)
    else:
        with pytest.raises(ValueError, match=" -> "):
            topological_order(edges)


def test_a_cycle_is_shown_from_its_first_name() -> None:
    assert find_cycle({"start": ["a"], "a": ["b"], "b": ["a"]}) == ["a", "b", "a"]
    assert find_cycle({"a": ["a"]}) == ["a", "a"]


def test_an_order_keeps_the_written_order_where_nothing_waits() -> None:
    assert topological_order({"c": [], "a": [], "b": []}) == ["c", "a", "b"]


def test_a_chain_of_a_hundred_thousand_is_no_trouble() -> None:
    chain = {str(n): [str(n + 1)] for n in range(100_000)}
    assert find_cycle(chain) is None
    assert topological_order(chain)[0] == "100000"
    assert len(find_cycle({**chain, "100000": ["0"]}) or []) == 100_002
