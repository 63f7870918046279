"""What a step sees of its machine's environment."""

from __future__ import annotations

from swamp.models.environment import step_environment


def test_nothing_of_swamp_or_of_its_service_and_nothing_that_carries_what_is_hidden() -> None:
    environ = {
        "PATH": "/bin", "HOME": "/root", "SWAMP_WORKER_TOKEN": "t", "SWAMP_ANYTHING": "", "MY_TOKEN": "node.abc123",
        "CONFIG": "x=/var/lib/worker/y", "NOTIFY_SOCKET": "/run/n", "CREDENTIALS_DIRECTORY": "/run/c", "EMPTY": "",
    }  # fmt: skip
    seen = step_environment(environ, ["abc123", "/var/lib/worker", ""])
    assert seen == {"PATH": "/bin", "HOME": "/root", "EMPTY": ""}
