"""Cuts a stream of bytes into whole lines, in linear time and bounded memory. Pure."""

from __future__ import annotations

LONGEST_PART = 64 * 1024  #: bytes of a line without an end that are held back; more of it is let go in parts


class LineCutter:
    """Takes bytes as they come and gives them back in pieces that end with a newline.

    Joined, the pieces are exactly what went in. A line longer than `LONGEST_PART` comes in several pieces, cut between
    UTF-8 characters where it is UTF-8.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # of the line that has not ended; a list, so that no byte is copied twice
        self._held = 0

    def feed(self, data: bytes) -> bytes:
        """The whole lines that `data` completes; empty if it completes none."""
        end = data.rfind(b"\n") + 1
        if end == len(data) and not self._parts:
            return data
        if end:
            whole = b"".join((*self._parts, data[:end]))
            self._parts, self._held = [], 0
            data = data[end:]
        else:
            whole = b""
        if data:
            self._parts.append(data)
            self._held += len(data)
        if self._held > LONGEST_PART:
            part = b"".join(self._parts)
            cut = _before_last_character(part)
            whole += part[:cut]
            self._parts, self._held = [part[cut:]], len(part) - cut
        return whole

    def rest(self) -> bytes:
        """What is left when the stream has ended: the last line, if it has no newline."""
        whole = b"".join(self._parts)
        self._parts, self._held = [], 0
        return whole


def _before_last_character(data: bytes) -> int:
    """Where to cut `data` so that no UTF-8 character at its end is torn; its length if nothing there is unfinished."""
    for back in range(1, 4):
        byte = data[-back]
        if byte >= 0xC0:  # first byte of a character of 2, 3 or 4 bytes
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if length > back else len(data)
        if byte < 0x80:  # a character of one byte
            break
    return len(data)
