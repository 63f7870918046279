"""Reading a field of an event whose sender may be newer or broken: a value of another type counts as absent. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from swamp.workflows.events import Event


def text_of(event: Event | Mapping[str, object], field: str) -> str:
    """The field's text, "" where there is none."""
    value = event.get(field)
    return value if isinstance(value, str) else ""


def number_of(event: Event | Mapping[str, object], field: str) -> int | None:
    """The field's whole number, None where there is none."""
    value = event.get(field)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def items_of(event: Event | Mapping[str, object], field: str) -> list[Mapping[str, object]]:
    """The objects in the field's list, in order."""
    value = event.get(field)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
