"""Machines that have joined, by hand: what a worker gone bad can do with what it was given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.e2e.stage import Stage
from tests.waiting import wait_until
from workers.identity import Identity
from workers.joining import hello
from workers.session import NotReached, Session, join


@contextmanager
def joined(stage: Stage, token: str, cache: str = "by-hand") -> Iterator[Session]:
    """A session of the machine whose cache directory is that; `token` is the text of one."""
    name, _, secret = token.partition(".")
    identity = Identity.load_or_create(stage.scratch / cache)
    try:
        say_hello = partial(hello, identity.next_epoch(), acknowledged=0, slots=1, grace=1.0)

        def welcomed() -> Session | None:
            try:
                return join(stage.url, name, bytes.fromhex(secret), identity, say_hello)
            except NotReached:  # an orchestrator that has just begun may not have Redis yet
                return None

        session = wait_until(welcomed, "the orchestrator to take the machine")
        assert session
        try:
            yield session
        finally:
            session.close()
    finally:
        identity.close()
