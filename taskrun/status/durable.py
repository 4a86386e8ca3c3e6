"""Making what was written survive a crash of the machine: whole files, and the folder entries that name them."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path


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


def replace_whole(path: Path, data: bytes) -> None:
    """Puts `data` where `path` is, in one step: a reader, or a crash, sees the old file or the new one, never a part.

    A file that others were kept from reading stays so. The temporary file has a name nobody can lay a link in wait for.
    Raises OSError; then `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        try:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(fd, stat.S_IMODE(path.stat().st_mode))
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
