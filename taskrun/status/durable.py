"""Making what was written survive a crash of the machine: whole files, and the folder entries that name them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from taskrun.status import opening

#: Errors of file systems without hard links.
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def write_all(fd: int, data: bytes) -> None:
    """Writes every byte, however the system cuts the writes. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(folder: Path) -> None:
    """Makes a new, renamed or deleted name in `folder` durable, where the file system can do that at all."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def replace_whole(path: Path, data: bytes, mode: int | None = None) -> None:
    """Puts `data` where `path` is, in one step: a reader, or a crash, sees the old file or the new one, never a part.

    `mode`: of the file, before the umask; without it a file of ours keeps the mode that it has, and a new one has the run's.
    The temporary file has a name nobody can lay a link in wait for; a link at `path` is replaced itself. Raises OSError; then `path` is
    as it was.
    """
    fd, temporary = opening.beside(path, mode)
    try:
        try:
            if mode is None:
                with contextlib.suppress(FileNotFoundError):
                    found = path.lstat()
                    if opening.is_own(found, path.parent):
                        os.fchmod(fd, stat.S_IMODE(found.st_mode))
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)
