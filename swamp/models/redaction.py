"""Secrets made unreadable in what a step says and leaves: each becomes `***`. Pure.

A secret is found as it is, and in the forms that programs give to text: JSON, a URL, words of a shell, base64 (also in
the midst of more, as in an `Authorization: Basic` header). Of a secret with several lines each line is one too.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import replace
from urllib.parse import quote, quote_plus

from swamp.data.record import Blob, Output
from swamp.models.invocation import Outcome
from swamp.models.lines import LineCutter

MASK = "***"

#: Characters that a secret, or a line of one, must have. A shorter one is in every output by chance: to replace it
#: would spoil what is no secret, and tell what it is.
SHORTEST = 4

_SHORTEST_BASE64 = 8  # characters that can be told for certain

_MASK = MASK.encode()
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def is_too_short(secret: str) -> bool:
    """Whether nothing of the secret can be redacted."""
    return not any(_words(secret))


class Redactor:
    """Whatever overlaps with any of the secrets is gone: of two that overlap, no end of either is left."""

    def __init__(self, secrets: Iterable[str]) -> None:
        words = {word for secret in secrets for word in _words(secret)}
        forms = {form.encode() for word in words for form in _forms(word)}
        self._patterns = sorted(forms)

    def data(self, data: bytes) -> bytes:
        spans = self.spans(data)
        return _masked(data, spans) if spans else data

    def text(self, text: str) -> str:
        encoded = text.encode("utf-8", "surrogatepass")
        redacted = self.data(encoded)
        return text if redacted is encoded else redacted.decode("utf-8", "surrogatepass")

    def value(self, value: object) -> object:
        """A JSON value, keys of maps and numbers included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [self.value(entry) for entry in value]
        if isinstance(value, int | float) and not isinstance(value, bool) and self.spans(str(value).encode()):
            return MASK
        return value

    def output(self, output: Output) -> Output:
        """What lies in a file already (`Blob`) is not looked at."""
        if isinstance(output.content, Blob):
            return output
        content = self._content(output.content, is_json=output.content_type == "application/json")
        return output if content == output.content else replace(output, content=content)

    def outcome(self, outcome: Outcome) -> Outcome:
        error = None if outcome.error is None else self.text(outcome.error)
        return replace(outcome, error=error, outputs=tuple(self.output(output) for output in outcome.outputs))

    def stream(self) -> RedactedStream:
        return RedactedStream(self)

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where secrets are: in order, apart from each other."""
        found = sorted(span for pattern in self._patterns for span in _occurrences(data, pattern))
        merged: list[tuple[int, int]] = []
        for begin, end in found:
            if merged and begin <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((begin, end))
        return merged

    def undecided(self, data: bytes) -> int:
        """From where on `data` may be the beginning of a secret; its length where it is not."""
        size = len(data)
        first = size
        for pattern in self._patterns:
            if size and data[-1] in pattern:
                begin = data.find(pattern[:1], max(0, size - len(pattern) + 1))
                while 0 <= begin < first:
                    if pattern.startswith(data[begin:]):
                        first = begin
                    else:
                        begin = data.find(pattern[:1], begin + 1)
        return first

    def _content(self, content: bytes, *, is_json: bool) -> bytes:
        if is_json:
            # Inside the texts: a secret that was written as JSON by the step is there written as JSON once more.
            try:
                value = json.loads(content)
            except (ValueError, RecursionError):
                return self.data(content)
            redacted = self.value(value)
            return content if redacted == value else _JSON.encode(redacted).encode("utf-8", "backslashreplace")
        return self.data(content)


class RedactedStream:
    """Redacts what comes in pieces as if it had come at once, however it was cut.

    It holds back what may be the beginning of a secret, and nothing more: always less than the longest one's length.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = b""
        self._covered = 0  # bytes at the beginning of what is held that belong to a secret which began before
        self._in_secret = False  # the last byte that was let go belongs to a secret

    def feed(self, data: bytes) -> bytes:
        """What can be told of all that has come so far, and was not told yet."""
        data = self._held + data
        return self._let_go(data, self._redactor.undecided(data))

    def rest(self) -> bytes:
        """What is left when the stream has ended."""
        return self._let_go(self._held, len(self._held))

    def _let_go(self, data: bytes, end: int) -> bytes:
        """`data` up to `end`; the rest is held."""
        out = []
        done, covered, in_secret = 0, 0, self._in_secret
        spans = self._redactor.spans(data)
        if self._covered:
            spans = [(0, self._covered), *spans]
        for begin, stop in spans:
            if begin >= end:
                break
            if begin > done:
                out.append(data[done:begin])
                in_secret = False
            if not in_secret:
                out.append(_MASK)
            in_secret = True
            done = max(done, min(stop, end))
            covered = max(covered, stop)
        if done < end:
            out.append(data[done:end])
            in_secret = False
        self._held = data[end:]
        self._covered = max(0, max(covered, self._covered) - end)
        self._in_secret = in_secret
        return b"".join(out)


class RedactedLines:
    """As `RedactedStream`, but lets go of whole lines; see `LineCutter` for how long ones are cut."""

    def __init__(self, redactor: Redactor) -> None:
        self._stream = redactor.stream()
        self._cutter = LineCutter()

    def feed(self, data: bytes) -> bytes:
        return self._cutter.feed(self._stream.feed(data))

    def rest(self) -> bytes:
        return self._cutter.feed(self._stream.rest()) + self._cutter.rest()


def _words(secret: str) -> Iterator[str]:
    """What is to be found of a secret: all of it, and each of its lines."""
    words = [secret, *(line.strip() for line in secret.splitlines())]
    return (word for word in words if len(word) >= SHORTEST)


def _forms(word: str) -> Iterator[str]:
    yield word
    for form in (json.dumps(word)[1:-1], json.dumps(word, ensure_ascii=False)[1:-1]):
        yield form
        yield form.replace("/", "\\/")  # PHP
        yield form.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")  # Go
        yield json.dumps(form, ensure_ascii=False)[1:-1]  # a document inside of a document, as in many logs
    for form in (quote(word, safe=""), quote(word), quote_plus(word), quote(word, safe="!'()*")):
        yield form
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), form)
    yield word.replace("'", "'\\''")
    yield word.replace("'", "'\"'\"'")
    yield re.sub(r'(["$`\\])', r"\\\1", word)
    yield re.sub(r"([^A-Za-z0-9_@%+=:,./-])", r"\\\1", word)
    yield from _base64_forms(word.encode())


def _base64_forms(word: bytes) -> Iterator[str]:
    """Three: it depends on what goes before. Without the characters at both ends that neighbours have a part in."""
    for before in range(3):
        encoded = b64encode(bytes(before) + word).decode()
        form = encoded[-(-before * 8 // 6) : (before + len(word)) * 8 // 6]
        if len(form) >= _SHORTEST_BASE64:
            yield form
            yield form.replace("+", "-").replace("/", "_")


def _occurrences(data: bytes, pattern: bytes) -> Iterator[tuple[int, int]]:
    begin = data.find(pattern)
    while begin >= 0:
        yield begin, begin + len(pattern)
        begin = data.find(pattern, begin + 1)


def _masked(data: bytes, spans: list[tuple[int, int]]) -> bytes:
    out = []
    done = 0
    for begin, end in spans:
        out += [data[done:begin], _MASK]
        done = end
    return b"".join((*out, data[done:]))
