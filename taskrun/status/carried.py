"""The records that a resume takes over into a new status file: all of them are there from the moment that the file is.

Were they written as the run goes, a run that is killed early, or stops at a barrier, would leave a file without some of them, and a
resume from that file would run again what had ended long ago.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

from taskrun.errors import RecordsFailed
from taskrun.status import opening
from taskrun.status.durable import sync_folder, write_all

_NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)  # file systems (NFS) without files that have no name


class CarriedFile:
    """A file without a name until `publish`, so that nothing is left of it when the run is killed before."""

    def __init__(self, path: Path) -> None:
        """Raises RecordsFailed."""
        self.path = path
        self._part: Path | None = None
        try:
            try:
                self._fd = opening.unnamed(path.parent)
            except OSError as error:
                if error.errno not in _NO_UNNAMED:
                    raise
                self._part = path.with_name(path.name + ".part")
                self._part.unlink(missing_ok=True)  # of a run that was killed: the lock is ours now
                self._fd = opening.new(self._part)
        except OSError as error:
            raise self._failed(error) from error

    def write(self, lines: Iterable[bytes]) -> None:
        """Raises RecordsFailed."""
        try:
            write_all(self._fd, b"".join(lines))
        except OSError as error:
            raise self._failed(error) from error

    def publish(self) -> None:
        """Durable, then there, whole. Raises RecordsFailed; then nothing is there."""
        try:
            os.fsync(self._fd)
            if self._part is None:
                os.link(f"/proc/self/fd/{self._fd}", self.path, src_dir_fd=self._fd, follow_symlinks=True)  # linkat, which follows
            else:
                os.link(self._part, self.path)
                self._part.unlink()
            sync_folder(self.path.parent)
        except OSError as error:
            raise self._failed(error) from error
        self.discard()

    def discard(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._part is not None:
            with contextlib.suppress(OSError):
                self._part.unlink()
            self._part = None

    def _failed(self, error: OSError) -> RecordsFailed:
        return RecordsFailed(f"{self.path} cannot be written: {os.strerror(error.errno or 0)}; nothing was run")
