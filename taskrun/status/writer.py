"""The status file as the driver writes it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from taskrun.errors import RecordsFailed
from taskrun.status.linefile import SYNC_SECONDS, LineFile
from taskrun.status.record import HEADER, is_beginning


class StatusWriter(LineFile):
    """Writes records to a status file; see LineFile for `write`, `close`, `torn` and what is raised.

    `header`: begin a new file with the header line. `append`: continue an existing file; a torn last line is cut off and kept in `torn`
    (its task has no record and runs again), and a file that ends in anything else than a record is refused.
    """

    def __init__(
        self,
        path: Path,
        *,
        header: bool = False,
        append: bool = False,
        on_error: Callable[[RecordsFailed], None] | None = None,
        sync_seconds: float = SYNC_SECONDS,
    ) -> None:
        super().__init__(path, append=append, may_be_torn=is_beginning, on_error=on_error, sync_seconds=sync_seconds)
        if header and self.empty:
            try:
                self.write([HEADER])
            except RecordsFailed:
                with contextlib.suppress(RecordsFailed):
                    self.close()
                raise
