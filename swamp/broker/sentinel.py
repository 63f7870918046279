"""Asking Sentinels where the master of a service is."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, cast

import redis

from swamp.broker.connection import NoSuchService, is_away, settings
from swamp.broker.location import Location, Watched

PATIENCE = 1.0  #: seconds for each Sentinel; the next one knows as much


def find_master(watched: Watched, ca_certificate: Path | None) -> Location:
    """Where the service's master is now. Raises redis-py's `ConnectionError`, which says what each Sentinel said, when
    none of them knows a master that works; in mid-failover that passes within seconds. It is a `NoSuchService` when
    some of them answer and none watches the service."""
    complaints, answered, known_there = [], False, False
    for host, port in watched.sentinels:
        try:
            client: redis.Redis = redis.Redis(
                host=host,
                port=port,
                username=watched.sentinel_username,
                password=watched.sentinel_password,
                **settings(patience=PATIENCE, tls=watched.tls, ca_certificate=ca_certificate),
            )
            with closing(client):
                masters = cast("dict[str, dict[str, Any]]", client.sentinel_masters())
        except redis.RedisError as error:
            complaints.append(f"{host}:{port}: {error}")
            answered = answered or not is_away(error)
            continue
        answered = True
        master = masters.get(watched.service)
        known_there = known_there or master is not None
        if master is None:
            known = ", ".join(sorted(masters)) or "none"
            complaints.append(f"{host}:{port} does not watch a service '{watched.service}' (but: {known})")
        elif not master["is_master"] or master["is_sdown"] or master["is_odown"]:
            complaints.append(f"{host}:{port}: the master of '{watched.service}' is down")
        else:
            return watched.at(str(master["ip"]), int(master["port"]))
    kind = NoSuchService if answered and not known_there else redis.ConnectionError
    raise kind(f"no Sentinel knows a master that works: {'; '.join(complaints)}")
