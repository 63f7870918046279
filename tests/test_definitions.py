"""What parses definitions remembers texts, never files."""

from __future__ import annotations

import pytest

from swamp.definitions import Remembered


def test_a_small_text_is_parsed_once_and_a_changed_or_failing_one_anew() -> None:
    parsed: list[tuple[str, str]] = []

    def parse(text: str, source: str) -> str:
        parsed.append((text, source))
        if text == "wrong":
            raise ValueError(text)
        return text.upper()

    remembered = Remembered(parse)
    big = "x" * (Remembered.SMALL + 1)
    assert [remembered(text, "a") for text in ("one", "one", "two", "one")] == ["ONE", "ONE", "TWO", "ONE"]
    assert remembered("one", "b") == "ONE"
    for text in ("wrong", "wrong"):
        with pytest.raises(ValueError, match=text):
            remembered(text, "a")
    remembered(big, "a")
    remembered(big, "a")
    assert parsed == [("one", "a"), ("two", "a"), ("one", "b"), ("wrong", "a"), ("wrong", "a"), (big, "a"), (big, "a")]
