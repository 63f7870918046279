"""With the URL for monitoring the buttons of the tools do not work, and what they are pressed on stays as it was."""

from __future__ import annotations

import pytest

from tests.contracts.picture import Picture
from tests.contracts.tools import Dashboard, Tools

pytestmark = pytest.mark.xdist_group("contracts")

BUTTONS = {
    "delete a job that waits": ("queued waiting", "/job/{job}/delete"),
    "delete a job that runs": ("started busy", "/job/{job}/delete"),
    "delete a job that has finished": ("finished done", "/job/{job}/delete"),
    "requeue a failed job": ("failed done", "/job/{job}/requeue"),
    "requeue all failed jobs": ("failed done", "/requeue/done"),
    "empty a queue": ("queued waiting", "/queue/waiting/queued/empty"),
    "empty the list of what runs": ("started busy", "/queue/busy/started/empty"),
    "empty the list of what has finished": ("finished done", "/queue/done/finished/empty"),
    "empty the list of what has failed": ("failed done", "/queue/done/failed/empty"),
    "empty the list of what was canceled": ("canceled done", "/queue/done/canceled/empty"),
    "compact a queue": ("queued waiting", "/queue/waiting/compact"),
}

COMMANDS = {
    "requeue": ("requeue", "--queue", "done", "--all"),
    "empty": ("empty", "waiting"),
    "empty all": ("empty", "--all"),
    "suspend": ("suspend",),
    "enqueue": ("enqueue", "--queue", "waiting", "os.getcwd"),
}


@pytest.mark.parametrize("button", BUTTONS)
def test_a_button_of_the_dashboard_fails_and_changes_nothing(dashboard: Dashboard, picture: Picture, button: str):
    state, path = BUTTONS[button]
    before = picture.everything()
    answer = dashboard.post(path.format(job=picture.jobs()[state][0]))
    assert answer.status == 500, answer
    assert picture.everything() == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_rq_that_writes_changes_nothing(tools: Tools, picture: Picture, command: str):
    before = picture.everything()
    name, *arguments = COMMANDS[command]
    done = tools.run("rq", name, "--url", picture.url, *arguments)
    refused = "has no permissions" in done.stdout + done.stderr
    assert refused, done
    assert picture.everything() == before
