"""Asking Sentinels where the master of a service is."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

from swamp.broker.client import Client, NoConnection, RedisTrouble, dial
from swamp.broker.connection import NoSuchService, is_away
from swamp.broker.location import Location, Watched

PATIENCE = 1.0  #: seconds for each Sentinel; the next one knows as much


def find_master(watched: Watched, ca_certificate: Path | None) -> Location:
    """Where the service's master is now. Raises `NoConnection`, which says what each Sentinel said, when
    none of them knows a master that works; in mid-failover that passes within seconds. It is a `NoSuchService` when
    some of them answer and none watches the service."""
    complaints, answered, known_there = [], False, False
    for host, port in watched.sentinels:
        try:
            with closing(_sentinel(watched, host, port, ca_certificate)) as client:
                masters = _masters(client.execute_command("SENTINEL", "MASTERS"))
        except RedisTrouble as error:
            complaints.append(f"{host}:{port}: {error}")
            answered = answered or not is_away(error)
            continue
        answered = True
        master = masters.get(watched.service)
        known_there = known_there or master is not None
        if master is None:
            known = ", ".join(sorted(masters)) or "none"
            complaints.append(f"{host}:{port} does not watch a service '{watched.service}' (but: {known})")
        elif not _works(master):
            complaints.append(f"{host}:{port}: the master of '{watched.service}' is down")
        else:
            return watched.at(master["ip"], int(master["port"]))
    kind = NoSuchService if answered and not known_there else NoConnection
    raise kind(f"no Sentinel knows a master that works: {'; '.join(complaints)}")


def _sentinel(watched: Watched, host: str, port: int, ca_certificate: Path | None) -> Client:
    call = partial(dial, watched.at(host, port).url, ca_certificate, PATIENCE)
    return Client(call, watched.sentinel_username, watched.sentinel_password, patience=PATIENCE)


def _masters(answer: list[list[bytes]]) -> dict[str, dict[str, str]]:
    """What is said of each master, by its service."""
    masters = []
    for words in answer:
        texts = [word.decode(errors="replace") for word in words]
        masters.append(dict(zip(texts[::2], texts[1::2], strict=False)))
    return {master["name"]: master for master in masters}


def _works(master: dict[str, str]) -> bool:
    flags = master["flags"].split(",")
    return "master" in flags and not {"s_down", "o_down"} & {*flags}
