from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.digests import SIZE, Digests

#: All in one bucket, and often found across two others: zeros, and a single one.
ALIKE = st.integers(2, SIZE - 1).map(lambda place: bytes(place) + b"\x01" + bytes(SIZE - 1 - place))


@given(st.lists(ALIKE | st.binary(min_size=SIZE, max_size=SIZE)), st.lists(ALIKE))
def test_it_holds_what_was_added_and_nothing_else(added: list[bytes], others: list[bytes]) -> None:
    digests, model = Digests(), set[bytes]()
    for digest in added:
        assert (digest in digests) == (digest in model)
        digests.add(digest)
        model.add(digest)
        assert len(digests) == len(model)
    for digest in [*added, *others]:
        assert (digest in digests) == (digest in model)
