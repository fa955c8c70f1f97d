"""Publishes to a shared index while a watcher runs, in its own thread, so that no server slows indexing."""

import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.errors import IndexerError
from indexer.records import utc_now
from indexer.store import lock
from indexer.watch import Log
from indexer.watch.scheduler import FIRST_RETRY, LAST_RETRY

if TYPE_CHECKING:
    from indexer.settings import Settings
    from indexer.shared.sending import Sender
    from indexer.sources import Source


class Publisher:
    """Sends changes after each `wake`; retries failures with back-off and logs each once."""

    def __init__(self, path: Path, url: str, sender: "Sender", log: Log):
        self._path, self._url, self._sender, self._log = path, url, sender, log
        self._awake = threading.Event()
        self._state: dict[str, str | None] = {"at": None, "error": None}
        self._telling = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def wake(self) -> None:
        """Something may have changed."""
        self._awake.set()

    def stop(self) -> None:
        """Log and note nothing from now on: the lock on the index is about to be released."""
        with self._telling:
            self._stopped = True

    def _run(self) -> None:
        failed = 0
        while not self._stopped:
            self._awake.wait()
            self._awake.clear()
            try:
                self._send()
                failed = 0
            except IndexerError as error:
                self._failed(str(error))
            except Exception as bug:  # must neither end the thread nor go unnoticed
                self._failed(f"bug: {bug!r}")
            if self._state["error"] is not None:
                time.sleep(min(FIRST_RETRY * 2**failed, LAST_RETRY))
                failed = min(failed + 1, 16)
                self._awake.set()

    def _send(self) -> None:
        from indexer.shared.connection import connected

        began = utc_now()
        with connected(self._url) as connection:
            report = self._sender.send(connection)
        events: list[tuple[str, dict[str, Any]]] = []
        if report.sent or report.removed:
            events.append(("published", {"sent": report.sent, "removed": report.removed}))
        events += (("refused", {"run": key, "why": why}) for key, why in report.refused.items())
        self._tell(began, None, events)

    def _failed(self, error: str) -> None:
        if error != self._state["error"]:
            self._tell(self._state["at"], error, [("error", {"publish": error})])

    def _tell(self, at: str | None, error: str | None, events: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Log events, and note for `status` the time up to which everything was sent, and the current error."""
        with self._telling:
            if self._stopped:
                return
            for event, facts in events:
                self._log(event, facts)
            self._state = {"at": at, "error": error}
            with suppress(OSError):  # the next note will say it
                lock.note(self._path, {"published": self._state})


def publisher(path: Path, settings: "Settings", sources: "Sequence[Source]", log: Log) -> Publisher | None:
    """The publisher for these settings; None if they name no shared index."""
    if settings.publish.url is None:
        return None
    from indexer.shared.sending import sender

    return Publisher(path, settings.publish.url, sender(path, settings, sources), log)
