"""Syncing a file beside other work: what was written is on disk once somebody who needs it to be has waited for it."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Syncing:
    """`sync` makes durable all that was written until it is called, or raises `OSError`. It is called in a thread of
    its own, once for all that was written meanwhile. `failed` hears of errors, in that thread."""

    def __init__(self, sync: Callable[[], None], failed: Callable[[OSError], None] = lambda error: None) -> None:
        self._sync = sync
        self._failed = failed
        self._changed = threading.Condition()
        self._wanted = 0  # how often something was written
        self._done = 0  # up to which of these a sync was tried
        self._error: OSError | None = None  # of the last that failed since somebody waited
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Something was written: have it synced from now on."""
        with self._changed:
            self._wanted += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep_syncing, name="sync", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self) -> None:
        """Until everything that was written is durable. Raises `OSError` if some of what was written since the last
        `wait` may not be. For one thread."""
        with self._changed:
            wanted = self._wanted
            while self._done < wanted:
                self._changed.wait()
            error, self._error = self._error, None
        if error is not None:
            raise error

    def _keep_syncing(self) -> None:
        while True:
            with self._changed:
                while self._done == self._wanted:
                    self._changed.wait()
                until = self._wanted
            error = None
            try:
                self._sync()
            except OSError as failure:
                error = failure
                self._failed(failure)
            with self._changed:
                self._error = error or self._error
                self._done = until
                self._changed.notify_all()
