"""The one way in which files of a run are opened for writing: never through a link, never somebody else's, with the run's file mode.

Whoever can write in the folder of a run can lay a link, another file's second name or a FIFO where the run is going to write. Only the last
part of a path is looked at: the folder that it is in, and links on the way there, are the user's own choice.
"""

from __future__ import annotations

import errno
import os
import pwd
import secrets
import stat
from pathlib import Path

#: Mode of a new file of a run, before the umask: commands and names of files are in them.
DEFAULT_MODE = 0o640
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_mode = DEFAULT_MODE


def set_mode(mode: int) -> None:
    """Have new files of this process's run made with that mode (`--file-mode`); like a umask it is the whole process's."""
    global _mode  # noqa: PLW0603 - as the umask is
    _mode = mode


def file_mode() -> int:
    """The mode of new files of the run, before the umask."""
    return _mode


def new(path: Path, mode: int | None = None) -> int:
    """A descriptor (reading, appending) of a file that did not exist. Raises OSError, FileExistsError whatever is there."""
    return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _mode if mode is None else mode)


def own(path: Path, *, make: bool = True, device: bool = False) -> int:
    """A descriptor (reading, appending) of a regular file of ours that has one name; it is made if it is absent and `make`.

    `device`: a character device, such as /dev/null, is fine, too. Raises OSError; its `strerror` says what is wrong. Nothing hangs.
    """
    while True:
        try:
            fd = _existing(path, _FLAGS, device=device)
        except FileNotFoundError:
            if not make:
                raise
        else:
            if device:
                os.set_blocking(fd, True)
            return fd
        try:
            return new(path)
        except FileExistsError:
            continue  # made by somebody in between: it is looked at


def to_read(path: Path) -> int:
    """A descriptor for reading a file that `own` would write to. Raises OSError in the same cases."""
    return _existing(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def unnamed(folder: Path) -> int:
    """A descriptor (reading, writing) of a new file without a name. Raises OSError where the file system has none."""
    return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, _mode)


def beside(path: Path, mode: int | None = None) -> tuple[int, Path]:
    """A new file under a temporary name, to be put where `path` is in one step by `Path.replace`. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    return new(temporary, mode), temporary


def taken_by(path: Path) -> str:
    """Return why a new run cannot begin a file at `path`, as words after its name; '' where at most an empty file of ours is there."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    if stat.S_ISDIR(found.st_mode):
        return ""  # the attempt to open it says so
    return _wrong(found, path.parent) or ("is there already, of an earlier run" if found.st_size else "")


def is_own(found: os.stat_result, folder: Path) -> bool:
    """Return whether the status is of a regular file of ours, with one name (an `lstat` or `fstat` of a file in `folder`)."""
    return not _wrong(found, folder)


def _existing(path: Path, flags: int, *, device: bool = False) -> int:
    try:
        fd = os.open(path, flags | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            wrong = _wrong(path.lstat(), path.parent)
            if wrong:
                raise OSError(error.errno, f"it {wrong}", str(path)) from None
        raise
    found = os.fstat(fd)
    wrong = _wrong(found, path.parent)
    if wrong and not (device and stat.S_ISCHR(found.st_mode)):
        os.close(fd)
        raise OSError(errno.EPERM, f"it {wrong}", str(path))
    return fd


def _wrong(found: os.stat_result, folder: Path) -> str:
    """Return why the file is not to be written to, as words after its name; '' if it may be."""
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link, and nothing is written through one"
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if found.st_uid != os.geteuid() and found.st_uid != _owner_of_new(folder):
        return f"belongs to {user(found.st_uid)}, and only a file of your own is written to"
    if found.st_nlink > 1:
        return f"has {found.st_nlink} names (hard links), and what is written to it would be in the file of the other name, too"
    return ""


def _owner_of_new(folder: Path) -> int:
    """The user id that the file system shows for a file that we make there, -1 if we can make none.

    It is another than ours where the server maps users (root over NFS) or a mount gives all files one owner (CIFS, FUSE).
    """
    try:
        try:
            fd = unnamed(folder)
        except OSError:
            fd, path = beside(folder / "owner")
            path.unlink()
    except OSError:
        return -1
    try:
        return os.fstat(fd).st_uid
    finally:
        os.close(fd)


def user(uid: int) -> str:
    """The name of a user, to be shown."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
