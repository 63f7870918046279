"""Which of a process's environment variables its steps may see. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

#: By which systemd hands secrets, sockets and a line to itself to a service, and to nobody that the service starts.
_OF_THE_SERVICE = frozenset(
    {"CREDENTIALS_DIRECTORY", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID"}
)


def step_environment(environ: Mapping[str, str], hidden: Collection[str] = ()) -> dict[str, str]:
    """The environment of a machine, for the steps that run on it: everything but Swamp's own variables, which hold
    tokens, addresses and passwords that a step has no business with, and but whatever else holds one of `hidden`.

    (A keeper adds one of Swamp's, `SWAMP_STEP`: by it the processes of a step are known; see `swamp.models.keeper`.)
    """
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("SWAMP_")
        and name not in _OF_THE_SERVICE
        and not any(text in value for text in hidden if text)
    }
