"""What is looked for among RQ's lists is only what was put there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from swamp.broker.functions import Seen
from swamp.orchestrator.buttons import Buttons
from swamp.orchestrator.ledger import Ledger
from swamp.orchestrator.members import Lane, Live
from swamp.orchestrator.transport import Transport


def test_a_step_that_was_not_shown_yet_is_not_missed_on_the_list_of_what_runs():
    lives = {name: Live(name, "run", 0, 1, "node", begun=True, machine="m") for name in ("node--old", "node--new")}
    member = SimpleNamespace(target="node", machine="m", running=set(lives))
    ledger = SimpleNamespace(lanes={"node": Lane()}, members={"m": member}, live=lives, about=lambda _: {})
    asked_for: list[str] = []

    def look(asked: list[tuple[str, list[str], list[tuple[str, str]]]]) -> tuple[set[str], list[Seen]]:
        ((_, _, running),) = asked
        asked_for.extend(dispatch for dispatch, _ in running)
        return {"rq:queue:node"}, [Seen("node", [], [], ["unlisted"] * len(running))]

    transport = SimpleNamespace(look=look, job_states=lambda _: [])
    shown: list[str] = []
    buttons = Buttons(
        cast("Ledger", ledger),
        cast("Transport", transport),
        lambda *_: None,
        lambda live: shown.append(live.id),
        {"node--new"},
    )
    buttons.look(lambda: {"node"})
    assert asked_for == shown == ["node--old"]
