"""Big content stays as long as a result speaks of it, and not longer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from workers.contents import ContentLost, Contents


def named(*contents: bytes) -> Mapping[str, bytes]:
    return {hashlib.sha256(content).hexdigest(): content for content in contents}


def there(directory: Path) -> set[bytes]:
    return {path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def contents(tmp_path: Path) -> Contents:
    return Contents(tmp_path)


def test_content_goes_with_the_last_result_that_speaks_of_it_while_others_wait(tmp_path: Path, contents: Contents):
    contents.put("node--1", named(b"one", b"both"))
    contents.put("node--2", named(b"both", b"two"))
    contents.delivered(["node--1", "node--unknown"])
    assert there(tmp_path) == {b"both", b"two"}
    contents.delivered(["node--2"])
    assert there(tmp_path) == set()


def test_what_an_earlier_process_left_is_kept_for_its_results_and_the_rest_removed(tmp_path: Path, contents: Contents):
    contents.put("node--1", named(b"one"))
    contents.put("node--2", named(b"two"))
    again = Contents(tmp_path)
    again.take_up({"node--2": list(named(b"two")), "node--3": []})
    assert there(tmp_path) == {b"two"}
    assert again.get(*named(b"two")) == b"two"
    again.delivered(["node--2"])
    with pytest.raises(ContentLost):
        again.get(*named(b"two"))
