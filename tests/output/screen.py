"""A terminal of a given size for tests: a real pty, and what a person would see on it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import threading
import tty
from contextlib import suppress
from typing import TextIO


class Screen:
    """A pseudo-terminal whose output is kept; `stream` is its inner side, as a program sees it."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self._outer, inner = pty.openpty()
        tty.setraw(inner)
        self.received = b""
        self._stop = False
        self.stream: TextIO = os.fdopen(inner, "w", encoding="utf-8")
        self.resize(columns, rows)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        fcntl.ioctl(self._outer, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        """Take the terminal away, as a closed window does."""
        self._stop = True
        self._reader.join(10)
        os.close(self._outer)

    def drop(self) -> None:
        """Close the inner side of a terminal that was taken away, with whatever could not be written."""
        with suppress(OSError):
            self.stream.close()

    def end(self) -> str:
        """Close the inner side; everything that was written."""
        self.stream.close()
        self._reader.join(10)
        os.close(self._outer)
        return self.received.decode()

    def _read(self) -> None:
        while not self._stop:
            if not select.select([self._outer], [], [], 0.05)[0]:
                continue
            try:
                content = os.read(self._outer, 65536)
            except OSError:
                return
            if not content:
                return
            self.received += content


_TOKEN = re.compile(r"\x1b\[(\d*)([A-Za-z])|(.)", re.DOTALL)


def seen(written: str, columns: int) -> list[str]:
    """The lines on a screen of endless height after `written`: line feeds, wrapping, cursor up and erase below.

    Raises AssertionError for any other way to move the cursor.
    """
    lines: list[str] = [""]
    row = 0
    for match in _TOKEN.finditer(written):
        number, command, character = match.groups()
        if command == "A":
            row -= int(number or 1)
            assert row >= 0, "the cursor was moved above the screen"
        elif command == "J":
            assert not number
            lines[row:] = [""]
        elif command == "m":
            pass
        elif character == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif character == "\r":
            lines[row] = "" if row == len(lines) - 1 else lines[row]
        else:
            assert character is not None, f"an unexpected control sequence {match[0]!r}"
            assert character >= " ", f"an unexpected control character {character!r}"
            if len(lines[row]) == columns:
                row += 1
                lines.append("")
            lines[row] += character
    return lines
