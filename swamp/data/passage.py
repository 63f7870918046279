"""What must happen to values on their way into cel-expr-python and out of it, so that they arrive as they were. Pure.

It cuts text at the first NUL character; a lone surrogate or a whole number beyond 64 bits, wherever it lies in a row,
makes every evaluation on that row fail. Such values are rare, so `UNSAFE` tells from the stored text whether to care.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from swamp.clock import iso

#: Found in text, or in the text of a JSON document, that may hold what does not pass by itself.
UNSAFE = re.compile(r"\x00|\\u0000|\\u[dD][89a-fA-F]|[0-9]{19}")

# Characters that Unicode keeps for use inside a program: one of them stands for NUL while CEL looks at a row.
_STAND_INS = [chr(code) for code in range(0xFDD0, 0xFDF0)]


class Passage:
    """A row made passable, and the way back for what an expression gave.

    NUL arrives and comes back; a lone surrogate becomes `?`, a number beyond 64 bits the nearest floating point number.
    """

    def __init__(self, row: Mapping[str, object]) -> None:
        text = json.dumps(row, ensure_ascii=False)
        self._stand_in = next((mark for mark in _STAND_INS if mark not in text), _STAND_INS[0])
        self.row = {name: self._passable(value) for name, value in row.items()}

    def back(self, value: object) -> object:
        """`value`, with NUL where it was."""
        match value:
            case str():
                return value.replace(self._stand_in, "\0")
            case dict():
                return {self.back(key): self.back(inner) for key, inner in value.items()}
            case list():
                return [self.back(inner) for inner in value]
            case _:
                return value

    def _passable(self, value: object) -> object:
        match value:
            case str():
                return value.replace("\0", self._stand_in).encode(errors="replace").decode()
            case bool():
                return value
            case int() if not -(1 << 63) <= value < 1 << 63:
                return float(str(value))  # unlike float(value), infinite rather than an error when it is too great
            case Mapping():
                return {self._passable(key): self._passable(inner) for key, inner in value.items()}
            case list():
                return [self._passable(inner) for inner in value]
            case _:
                return value


def jsonable(value: object) -> object:
    """A value of an expression as JSON has it: bytes in base64, times in ISO 8601, what JSON lacks as text.

    Keys are sorted: the maps of CEL have no order of their own.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case datetime():
            return iso(value)
        case timedelta():
            return f"{value.total_seconds():g}s"
        case Mapping():
            return dict(sorted((_key(key), jsonable(inner)) for key, inner in value.items()))
        case list() | tuple():
            return [jsonable(inner) for inner in value]
        case _:
            return str(value)  # a type, such as `string`


def _key(key: object) -> str:
    return key if isinstance(key, str) else str(key).lower() if isinstance(key, bool) else str(key)
