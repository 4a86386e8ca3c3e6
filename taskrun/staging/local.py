"""Files of this machine (and of every file system mounted on it)."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from taskrun.staging.guard import Guard
from taskrun.staging.locations import Pattern, Target
from taskrun.staging.store import (
    CHUNK,
    Arrived,
    Denied,
    Entry,
    FolderStore,
    Listing,
    Missing,
    NoSpace,
    Permanent,
    Seen,
    StoreError,
    Taken,
    Transient,
    Writer,
    unfinished_name,
)
from taskrun.status import names
from taskrun.status.durable import NO_LINKS, sync_folder

_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_KINDS: dict[int | None, type[StoreError]] = {
    errno.ENOENT: Missing,
    errno.EACCES: Denied,
    errno.EPERM: Denied,
    errno.EROFS: Denied,
    errno.ENOSPC: NoSpace,
    errno.EDQUOT: NoSpace,
    **dict.fromkeys(_PASSING, Transient),
}
_INTO = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class LocalStore(FolderStore):
    """Relative names are below `folder`. `tag` is in the names of unfinished files; what an earlier run of it left is overwritten."""

    def __init__(self, folder: Path, tag: str, guard: Guard | None = None) -> None:
        """`guard`: asked before anything is written."""
        self._folder = folder
        self._tag = tag
        self._guard = guard

    def path(self, name: str) -> Path:
        """Where a name of this store is."""
        return self._folder / name

    def real(self, name: str) -> str:
        """The same for all names of the same file."""
        return os.path.realpath(self._folder / name)

    def find(self, pattern: Pattern, listing: Listing | None = None) -> Iterator[Entry]:
        """The files of a run that goes on are not among what a glob matches: they grow, and one of them is secret."""
        if pattern.plain is not None:
            file = self.stat(pattern.plain)
            if file is not None:
                yield file
            return
        listing = listing or Listing()
        left = [(pattern.base, 0)]
        while left:
            base, level = left.pop()
            listing.enter(str(self._folder / pattern.base), level)
            entries: list[tuple[str, bool]] = []
            try:
                with os.scandir(self._folder / base) as found:
                    for entry in found:
                        listing.found(str(self._folder / base), entry.name, here=True)
                        entries.append((entry.name, entry.is_dir(follow_symlinks=pattern.levels is not None)))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise _wrong(self._folder / base, error) from error
            live = names.of_live_runs({name for name, _ in entries})
            for name, folder in entries:
                if name in live:
                    continue
                if folder:
                    if pattern.levels is None or level < pattern.levels:
                        left.append((f"{base}{name}/", level + 1))
                elif pattern.relative(base + name) is not None and (file := self.stat(base + name)) is not None:
                    yield file

    def stat(self, name: str) -> Entry | None:
        try:
            found = (self._folder / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _wrong(self._folder / name, error) from error
        return _entry(name, found) if stat.S_ISREG(found.st_mode) else None

    def digest(self, entry: Entry, algorithm: str) -> str | None:
        made = hashlib.new(algorithm, usedforsecurity=False)
        for data in self.read(entry):
            made.update(data)
        return made.hexdigest()

    def read(self, entry: Entry, offset: int = 0) -> Iterator[bytes]:
        path = self._folder / entry.name
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _wrong(path, error) from error
        try:
            self._unchanged(path, fd, entry)
            os.lseek(fd, offset, os.SEEK_SET)
            while data := os.read(fd, CHUNK):
                yield data
            self._unchanged(path, fd, entry)
        except OSError as error:
            raise _wrong(path, error) from error
        finally:
            os.close(fd)

    def writer(self, target: Target, size: int | None, *, executable: bool = False, private: bool = False) -> LocalWriter:
        del size  # asking for the room at once costs a write per block where the file system cannot
        mode = 0o600 if private else 0o777 if executable else 0o666
        return LocalWriter(self._folder, target, self._tag, mode, self._guard)

    def free(self, target: Target) -> int | None:
        folder = self._folder / target.folder
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        try:
            found = os.statvfs(folder)
        except OSError:
            return None
        return found.f_bavail * found.f_frsize if found.f_blocks else None  # a file system of the kernel's own says nothing

    def changed(self, name: str) -> float | None:
        try:
            found = (self._folder / name).lstat()
        except OSError:
            return None
        return min(found.st_mtime, found.st_ctime)  # a copy may have its original's time, an old file may get new rights

    def touched(self, name: str) -> float | None:
        try:
            found = (self._folder / name).lstat()
        except OSError:
            return None
        return max(found.st_mtime, found.st_ctime)

    def walk(self, folder: str, listing: Listing) -> Iterator[Seen]:
        top = str(self._folder / folder)
        left = [(folder, 0)]
        while left:
            base, level = left.pop()
            listing.enter(top, level)
            listing.found(top, "", here=True)
            with contextlib.suppress(OSError), os.scandir(self._folder / base) as found:  # it has gone, or is not ours to look into
                for each in found:
                    seen = Seen(base + each.name, each.is_dir(follow_symlinks=False), each.inode())
                    yield seen
                    if seen.is_folder:
                        left.append((f"{seen.name}/", level + 1))

    def remove(self, name: str) -> None:
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise _wrong(self._folder / name, error) from error

    def rename(self, name: str, to: str) -> None:
        old, new = self._folder / name, self._folder / to
        try:
            with contextlib.suppress(FileExistsError):
                new.parent.mkdir(0o700)
            try:
                os.link(old, new, follow_symlinks=False)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                if os.path.lexists(new):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
                old.rename(new)
            else:
                old.unlink()
        except FileExistsError as error:
            raise Taken(f"{new} is there already") from error
        except OSError as error:
            raise _wrong(old, error) from error

    def remove_folder(self, name: str) -> bool:
        with contextlib.suppress(OSError):
            (self._folder / name).rmdir()
        return not os.path.lexists(self._folder / name)

    def close(self) -> None:
        pass

    @staticmethod
    def _unchanged(path: Path, fd: int, entry: Entry) -> None:
        if entry.version and _entry(entry.name, os.fstat(fd)).version != entry.version:
            raise Transient(f"{path} changed while it was read")


class LocalWriter(Writer):
    """Every folder below the target's is entered without following links, so nothing can lead the file elsewhere."""

    def __init__(self, root: Path, target: Target, tag: str, mode: int, guard: Guard | None) -> None:
        self._guard = guard
        self._path = root / target.path
        self._entry_name = target.path
        self._mode = mode
        *folders, self._name = target.name.split("/")
        self._temporary = unfinished_name(tag, self._name)
        self._fd = -1
        self._folder = -1
        try:
            with _explained(self._path):
                self._make(root / target.folder)
                self._folder = os.open(root / target.folder, os.O_RDONLY | os.O_DIRECTORY)
                for folder in folders:
                    self._enter(folder)
                self._ask_guard(self._folder, self._name)
                with contextlib.suppress(FileNotFoundError):  # of an earlier run that was killed
                    os.unlink(self._temporary, dir_fd=self._folder)
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                self._fd = os.open(self._temporary, flags, 0o600, dir_fd=self._folder)
        except BaseException:
            self.abandon()
            raise

    def write(self, data: bytes) -> None:
        with _explained(self._path):
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]

    def write_at(self, offset: int, data: bytes) -> None:
        """Write bytes anywhere, from any thread. The file ends where the last of them do."""
        with _explained(self._path):
            view = memoryview(data)
            while view:
                done = os.pwrite(self._fd, view, offset)
                view, offset = view[done:], offset + done

    def content(self) -> Iterator[bytes]:
        """Yield what was written."""
        with _explained(self._path):
            os.lseek(self._fd, 0, os.SEEK_SET)
            while data := os.read(self._fd, CHUNK):
                yield data

    def commit(self, sha256: str) -> Arrived:
        del sha256  # what was written here is what was hashed; reading it again would ask the page cache
        with _explained(self._path):
            mask = _umask()
            os.fchmod(self._fd, self._mode & ~mask)
            os.ftruncate(self._fd, os.lseek(self._fd, 0, os.SEEK_CUR))
            os.fsync(self._fd)
            self._ask_guard(self._folder, self._name)  # a run may have begun meanwhile
            os.replace(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            self._temporary = ""
            with contextlib.suppress(OSError):  # some file systems cannot
                os.fsync(self._folder)
            found = os.fstat(self._fd)
        self.abandon()
        sync_folder(self._path.parent.parent)
        return Arrived(_entry(self._entry_name, found), "sha256")

    def abandon(self) -> None:
        if self._fd >= 0 and self._temporary:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._folder)
        for fd in (self._fd, self._folder):
            if fd >= 0:
                os.close(fd)
        self._fd = self._folder = -1

    def _ask_guard(self, folder: int, name: str) -> None:
        why = self._guard.why_not(folder, name) if self._guard is not None else ""
        if why:
            raise Permanent(f"{self._path}: {name} {why}, which nothing that is staged may replace; choose another DEST")

    def _make(self, folder: Path) -> None:
        """The folder that the person named, and those above."""
        above = folder
        while not above.exists() and above.parent != above:
            above, name = above.parent, above.name
        if above != folder:
            fd = os.open(above, os.O_RDONLY | os.O_DIRECTORY)
            try:
                self._ask_guard(fd, name)
            finally:
                os.close(fd)
            folder.mkdir(parents=True, exist_ok=True)

    def _enter(self, name: str) -> None:
        self._ask_guard(self._folder, name)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=self._folder)
        try:
            inner = os.open(name, _INTO, dir_fd=self._folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise Permanent(f"{self._path}: {name} on the way is a link or a file; nothing is written through it") from error
            raise
        os.close(self._folder)
        self._folder = inner


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _wrong(path, error) from error


def _wrong(path: Path, error: OSError) -> StoreError:
    said = (error.strerror or str(error)).lower()
    if error.errno in (errno.EISDIR, errno.ENOTEMPTY) or (error.errno == errno.EEXIST and path.is_dir()):
        return Permanent(f"{path}: a folder is in the place of the file; a destination that is a folder ends in /")
    return _KINDS.get(error.errno, Permanent)(f"{path}: {said}")


def _entry(name: str, found: os.stat_result) -> Entry:
    version = f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}-{found.st_ctime_ns}"  # `touch -r` leaves a change in the last one alone
    return Entry(name, found.st_size, version, bool(found.st_mode & 0o100))


def _umask() -> int:
    """This process's umask, without changing it for a moment for all threads."""
    for line in Path("/proc/self/status").read_bytes().split(b"\n"):
        if line.startswith(b"Umask:"):
            return int(line.split()[1], 8)
    return 0o022
