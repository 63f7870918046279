"""Text from elsewhere, made fit to be shown: nothing in it moves the cursor, and its width is known. Pure."""

from __future__ import annotations

import re
import unicodedata

#: C0 except tab, DEL, C1, line and paragraph separators, direction overrides, and halves of surrogate pairs
#: (these last cannot be written as UTF-8).
_HARMFUL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r"}


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def harmless(text: str) -> str:
    """One line of text with every character written out that a terminal would act on (`\\x1b`); tabs stay."""
    return _HARMFUL.sub(_escape, text)


def output_lines(text: str) -> list[str]:
    """The lines of a method's output as they may be shown: harmless, and without the `\\r` of a `\\r\\n`."""
    return [harmless(line.removesuffix("\r")) for line in text.split("\n")]


def width(text: str) -> int:
    """How many columns harmless text takes on a terminal; never too few, save for tabs."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def clip(text: str, columns: int) -> str:
    """Harmless text cut to at most that many columns, `…` for what is missing, tabs as spaces."""
    # No character takes less than none of a column: what lies far beyond the edge need not be measured.
    text = text[: 4 * columns + 1].expandtabs(4)
    if width(text) <= columns:
        return text
    kept: list[str] = []
    left = columns - 1
    for character in text:
        left -= _columns(character)
        if left < 0:
            break
        kept.append(character)
    return "".join(kept) + "…" if columns > 0 else ""


def duration(milliseconds: int) -> str:
    """`12ms`, `1.2s`, `2m05s`, `3h07m`."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    if milliseconds < 59_950:
        return f"{milliseconds / 1000:.1f}s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    if minutes < 60:
        return f"{minutes}m{seconds:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"
