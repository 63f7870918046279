"""What other threads want done by the core: inside its next transaction, and behind its commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from swamp.broker.client import RedisTrouble
from swamp.errors import SwampError


@dataclass(slots=True)
class Request:
    """Something to do in the next cycle: `inside` the transaction, then `after` it with the result."""

    inside: Callable[[sqlite3.Connection], Any]
    after: Callable[[Any], Any] | None
    future: Future[Any]


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a request in the transaction."""

    request: Request
    result: Any
    error: BaseException | None


def attempt(tx: sqlite3.Connection, request: Request) -> Tried:
    """A `SwampError` undoes this request alone."""
    tx.execute("SAVEPOINT request")
    try:
        result = request.inside(tx)
    except SwampError as error:
        tx.execute("ROLLBACK TO request")
        return Tried(request, None, error)
    finally:
        tx.execute("RELEASE request")
    return Tried(request, result, None)


def resolve(tried: Iterable[Tried], redis_lost: Callable[[RedisTrouble], None]) -> None:
    """Behind the commit: do what is left of each request, and tell whoever waits for it."""
    for one in tried:
        result, error = one.result, one.error
        if error is None and one.request.after is not None:
            try:
                result = one.request.after(result)
            except RedisTrouble as failure:
                redis_lost(failure)
                error = failure
            except SwampError as failure:
                error = failure
        if error is not None:
            one.request.future.set_exception(error)
        else:
            one.request.future.set_result(result)
