"""YAML as Swamp reads and writes it: every value knows its line, so that an error can name it.

What is read is a strict subset of YAML 1.2, chosen so that no value changes its meaning behind a person's back: plain
`true`, `false`, `null`, `~` and numbers written as in JSON are what they look like; everything else is text (`yes`,
`on`, `0755`, `12:30`, `2026-06-15`). A key given twice, a merge key (`<<`), a tag such as `!!python/…`, an alias that
multiplies itself and endless nesting are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from swamp.errors import Invalid
from swamp.yamlnode import Node, check_keys

__all__ = ["Node", "check_keys", "dump", "load"]

DEPTH = 64  #: nesting of lists and mappings; no definition needs a tenth of it
EXPANSION = 100_000  #: how many values the aliases of one text may add to those written out

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")
_REAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")
_SIXTY_FOUR_BITS = 2**63


def load(text: str, source: str) -> Node:
    """The one document in `text`; `source` names it in errors.

    Raises `Invalid`, with the line, for anything that is not the YAML described above.
    """
    try:
        return _Composer(source).compose(yaml.parse(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # The end of the text stands on a line that no editor shows.
        line = f":{min(mark.line + 1, max(1, len(text.splitlines())))}" if mark else ""
        raise Invalid(
            f"{source}{line}: this is not YAML: {error.problem or error.context}",
            hint="look at this line and the one before: indentation, brackets and quotes",
        ) from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise Invalid(
            f"{source}: this is not YAML: it holds a character that text cannot hold",
            hint="remove control characters from it",
        ) from error


def dump(value: object) -> str:
    """JSON values as YAML text, keys in the order given. `load` (and any other YAML reader) reads back the same."""
    text: str = yaml.dump(value, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=1_000_000)
    return text


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    node: Node
    anchor: str | None
    key: str | None = None  #: of a mapping: the key whose value comes next
    key_line: int = 0
    size: int = 1


class _Composer:
    """Makes nodes of parser events, without recursion: deep nesting must end in an error, not in a dead process."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._anchors: dict[str, Node] = {}
        self._stack: list[_Open] = []
        self._written = 0
        self._root: Node | None = None

    def compose(self, events: Iterator[yaml.Event]) -> Node:
        for event in events:
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.ScalarEvent):
                self._scalar(event, line)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._begin(event, line)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self._end()
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event, line)
            elif isinstance(event, yaml.DocumentStartEvent) and self._root is not None:
                raise self._fail(line, "a second document begins here", "keep one document a file")
        if self._root is None or self._root.value is None:
            raise Invalid(f"{self._source} is empty", hint="write a definition into it, or remove it")
        return self._root

    def _fail(self, line: int, message: str, hint: str | None = None) -> Invalid:
        return Invalid(f"{self._source}:{line}: {message}", hint=hint)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            raise self._fail(line, f"the tag '{event.tag}' is not read here", "remove it, or quote the value")
        if self._is_key_next():
            if event.value == "<<" and event.implicit[0]:
                raise self._fail(line, "merge keys ('<<') are not read here", "write the keys out")
            self._key(event.value, line)
            return
        value: str | int | float | bool | None = event.value
        if event.implicit[0] and event.tag is None:
            value = self._resolved(event.value, line)
        self._written += 1
        self._place(Node(value, self._source, line), event.anchor)

    def _resolved(self, text: str, line: int) -> str | int | float | bool | None:
        if text in _WORDS:
            return _WORDS[text]
        if text[0] not in "-0123456789":
            return text
        if _WHOLE.fullmatch(text):
            if len(text) > 20 or not -_SIXTY_FOUR_BITS <= int(text) < _SIXTY_FOUR_BITS:
                raise self._fail(line, "the number is too large", "put it in quotes if it is meant as text")
            return int(text)
        if _REAL.fullmatch(text):
            number = float(text)
            if number in (float("inf"), float("-inf")):
                raise self._fail(line, "the number is too large", "put it in quotes if it is meant as text")
            return number
        return text

    def _begin(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, line: int) -> None:
        if event.tag is not None and event.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            raise self._fail(line, f"the tag '{event.tag}' is not read here", "remove it")
        if self._is_key_next():
            raise self._fail(line, "a list or a mapping cannot be a key", "quote it if it is meant as text")
        if len(self._stack) == DEPTH:
            raise self._fail(line, f"lists and mappings are nested more than {DEPTH} deep", "write it flatter")
        self._written += 1
        if isinstance(event, yaml.MappingStartEvent):
            self._stack.append(_Open(Node({}, self._source, line, {}), event.anchor))
        else:
            self._stack.append(_Open(Node([], self._source, line), event.anchor))

    def _end(self) -> None:
        top = self._stack.pop()
        node = top.node
        self._place(Node(node.value, node.source, node.line, node.key_lines, top.size), top.anchor)

    def _alias(self, event: yaml.AliasEvent, line: int) -> None:
        if event.anchor not in self._anchors:
            raise self._fail(
                line, f"the alias '*{event.anchor}' stands for nothing that ended before it", "write the value out"
            )
        if self._is_key_next():
            raise self._fail(line, "an alias cannot be a key", "write the key out")
        self._place(self._anchors[event.anchor], None)

    def _is_key_next(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].node.value, dict) and self._stack[-1].key is None

    def _key(self, key: str, line: int) -> None:
        top = self._stack[-1]
        if key in top.node.key_lines:
            raise self._fail(
                line, f"the key '{key}' stands here a second time", f"first: line {top.node.key_lines[key]}"
            )
        top.key, top.key_line = key, line

    def _place(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._stack:
            self._root = node
            return
        top = self._stack[-1]
        top.size += node.size
        if top.size > self._written + EXPANSION:
            raise self._fail(node.line, f"aliases repeat more than {EXPANSION} values", "write the text out")
        holder = top.node
        if isinstance(holder.value, list):
            holder.value.append(node)
        elif isinstance(holder.value, dict) and top.key is not None and isinstance(holder.key_lines, dict):
            holder.value[top.key] = node
            holder.key_lines[top.key] = top.key_line
            top.key = None


class _Writer(_Dumper):  # type: ignore[misc, valid-type]
    """Quotes whatever this module or a YAML 1.1 reader would take for something else than text; writes no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_text(self, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data.rstrip("\n") else None
        node: yaml.ScalarNode = self.represent_scalar("tag:yaml.org,2002:str", data, style=style)
        return node


_Writer.add_representer(str, _Writer.represent_text)
_Writer.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{_REAL.pattern})$"), list("-0123456789"))
