"""Whether work can flow: what `/ready` is told."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from swamp.broker.patience import REPLY_TIMEOUT
from swamp.errors import SwampError
from swamp.orchestrator.core import Core

PATIENCE = REPLY_TIMEOUT + 3  #: seconds in which the core has to come round; a server that says nothing takes its time
ROOM = 64 * 1024  #: bytes that the disk has to take


async def why_not_ready(core: Core) -> str | None:
    """The part that keeps work from flowing, None if none does: `core` (it does not come round), `disk` (it is full, or
    cannot be written), `redis` (what is written there does not come back), `starting` (what machines said before we
    came is not applied yet). The word goes to Redis and back in the thread that moves all work, behind a transaction.
    """
    if not await asyncio.to_thread(_has_room, core.repo.database.parent):
        return "disk"
    try:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.wrap_future(core.ask(lambda _tx: "", lambda _: core.why_not_ready())) or None
    except TimeoutError:
        return "core"
    except SwampError:
        return "disk"
    except Exception:
        return "redis"


def _has_room(directory: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(ROOM))
            file.flush()
    except OSError:
        return False
    return True
