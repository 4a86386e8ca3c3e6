"""Folders of a host behind an SFTP server, through connections that others make (engines/ssh)."""

from __future__ import annotations

import contextlib
import errno
import stat
import threading
from collections.abc import Callable, Iterator
from typing import Any

from taskrun.staging import sftp_wire
from taskrun.staging.errands import Errands
from taskrun.staging.locations import Pattern, Target
from taskrun.staging.sessions import Pool
from taskrun.staging.store import (
    Arrived,
    Denied,
    Entry,
    FolderStore,
    Listing,
    Missing,
    Permanent,
    Seen,
    StoreError,
    Taken,
    Transient,
    Writer,
    unfinished_name,
)
from taskrun.staging.sums import Sums

#: Opens one more SFTP session: a paramiko.SFTPClient. Called from the mover's threads.
Connect = Callable[[], Any]
#: The sha256 of a file over there, None if nobody there can tell.
Digest = Callable[[str], "str | None"]

#: sshd allows ten sessions at a time on a connection: the agent, files on their way, one to look around, one that sums up, errands.
_FILES, _LOOKS = 4, 1


class SftpStore(FolderStore):
    """`lost`: the exceptions that say that a connection is gone; the next operation opens another one.

    Relative names are below `folder`, "" for the home folder. `place` is what messages call this host.
    """

    def __init__(
        self,
        place: str,
        connect: Connect,
        tag: str,
        *,
        folder: str = "",
        digest: Digest | None = None,
        lost: tuple[type[Exception], ...] = (),
        errands: Errands | None = None,
    ) -> None:
        """`errands`: files that the host itself moves, if it may."""
        self.place = place
        self.errands = errands
        self.tag = tag
        self._folder = folder.rstrip("/") + "/" if folder else ""
        self._digest = digest
        self.lost: tuple[type[BaseException], ...] = (*lost, EOFError, ConnectionError, TimeoutError)
        self._pool = Pool(connect, lambda sftp: sftp.get_channel().closed)
        self._files = threading.Semaphore(_FILES)
        self._sessions = threading.Semaphore(_FILES + _LOOKS)
        self._limits: sftp_wire.Limits | None = None

    def look(self) -> None:
        """Whether files can be moved there at all. Raises StoreError."""
        with self._session(""):
            pass

    def find(self, pattern: Pattern, listing: Listing | None = None) -> Iterator[Entry]:
        if pattern.plain is not None:
            entry = self.stat(pattern.plain)
            if entry is not None:
                yield entry
            return
        listing = listing or Listing()
        left = [(pattern.base, 0)]
        while left:
            base, level = left.pop()
            listing.enter(self.place, level)
            for name, folder in self._names(base, listing, links=pattern.levels is not None):
                if folder:
                    if pattern.levels is None or level < pattern.levels:
                        left.append((f"{base}{name}/", level + 1))
                elif pattern.relative(base + name) is not None and (entry := self.stat(base + name)) is not None:
                    listing.found(self.place, "")  # each is asked for, and may take its time
                    yield entry

    def stat(self, name: str) -> Entry | None:
        with self._session(name) as sftp:
            try:
                found = sftp.stat(self.path(name))
            except FileNotFoundError:
                return None
        return _entry(name, found) if stat.S_ISREG(found.st_mode) else None

    def digest(self, entry: Entry, algorithm: str) -> str | None:
        if algorithm != "sha256" or self._digest is None:
            return None
        with self.explained(entry.name):
            return self.sum_of(self.path(entry.name))

    def sum_of(self, path: bytes) -> str | None:
        """The sha256 of a path over there, None if nobody there can tell."""
        if self._digest is None:
            return None
        return self._digest(path.decode("utf-8", "surrogateescape"))

    def read(self, entry: Entry, offset: int = 0) -> Iterator[bytes]:
        with self._files, self._session(entry.name) as sftp, sftp.open(self.path(entry.name), "rb") as file:
            self._unchanged(entry, file)
            try:
                yield from sftp_wire.read(sftp, file.handle, offset, entry.size, self.limits(sftp).read)
            except sftp_wire.Shorter:
                raise Transient(f"{self.place}:{entry.name} became shorter while it was read") from None
            self._unchanged(entry, file)

    def limits(self, sftp: Any) -> sftp_wire.Limits:
        """Return what this server takes in one request; asked once. Raises OSError."""
        if self._limits is None:
            self._limits = sftp_wire.limits(sftp)
        return self._limits

    def writer(self, target: Target, size: int | None, *, executable: bool = False, private: bool = False) -> SftpWriter:
        del size
        return SftpWriter(self, target, 0o600 if private else 0o755 if executable else 0o644)

    def free(self, target: Target) -> int | None:
        path = self.path(target.folder)
        with self._session(target.folder) as sftp:
            while True:
                try:
                    return sftp_wire.free(sftp, path)
                except FileNotFoundError:
                    above = path.rstrip(b"/").rpartition(b"/")[0] or (b"/" if path.startswith(b"/") else b".")
                    if above == path:
                        return None
                    path = above
                except self.lost:
                    raise
                except OSError:  # a server that has no word for it: it says when it is full
                    return None

    def changed(self, name: str) -> float | None:
        with self._session(name) as sftp:
            try:
                return float(sftp.lstat(self.path(name)).st_mtime or 0)
            except FileNotFoundError:
                return None

    def walk(self, folder: str, listing: Listing) -> Iterator[Seen]:
        left = [(folder, 0)]
        while left:
            base, level = left.pop()
            listing.enter(self.place, level)
            for name, is_folder in self._names(base, listing, links=False):
                yield Seen(base + name, is_folder)
                if is_folder:
                    left.append((f"{base}{name}/", level + 1))

    def remove(self, name: str) -> None:
        with self._session(name) as sftp, contextlib.suppress(FileNotFoundError):
            sftp.remove(self.path(name))

    def rename(self, name: str, to: str) -> None:
        with self._session(name) as sftp:
            folder = self.path(to).rpartition(b"/")[0]
            if not _is_folder(sftp.lstat, folder):
                sftp.mkdir(folder, 0o700)
            with contextlib.suppress(FileNotFoundError):
                sftp.lstat(self.path(to))
                raise Taken(f"{self.place}:{to} is there already")
            sftp.rename(self.path(name), self.path(to))  # by the protocol it replaces nothing

    def remove_folder(self, name: str) -> bool:
        with contextlib.suppress(StoreError), self._session(name) as sftp:
            with contextlib.suppress(OSError):
                sftp.rmdir(self.path(name))
            try:
                sftp.lstat(self.path(name))
            except FileNotFoundError:
                return True
        return False

    @property
    def _pools(self) -> list[Pool]:
        return [self._pool, *([self._digest.pool] if isinstance(self._digest, Sums) else [])]

    @property
    def stale(self) -> bool:
        """Sessions wait that nobody has used for a while."""
        return any(pool.stale for pool in self._pools)

    def tidy(self) -> None:
        """Ends them."""
        for pool in self._pools:
            pool.tidy()

    def close(self) -> None:
        for pool in self._pools:
            pool.close()

    def path(self, name: str) -> bytes:
        """What the server calls it."""
        path = name if name.startswith("/") else self._folder + name
        return (path or ".").encode("utf-8", "surrogateescape")

    def _names(self, base: str, listing: Listing, *, links: bool) -> list[tuple[str, bool]]:
        """What is in a folder, and whether it is one. `links`: a link to a folder counts as one."""
        with self._session(base) as sftp:
            try:
                found = sftp_wire.listed(sftp, self.path(base), lambda name: listing.found(self.place, base + name if name else ""))
            except FileNotFoundError:
                return []
            names = []
            for name, mode in found:
                folder = stat.S_ISDIR(mode)
                if stat.S_ISLNK(mode) and links:
                    listing.found(self.place, "")
                    with contextlib.suppress(OSError):
                        folder = stat.S_ISDIR(sftp.stat(self.path(base + name)).st_mode)
                names.append((name, folder))
            return names

    def _unchanged(self, entry: Entry, file: Any) -> None:
        if entry.version and _entry(entry.name, file.stat()).version != entry.version:
            raise Transient(f"{self.place}:{entry.name} changed while it was read")

    def enter(self) -> None:
        """Waits until one file more may be written. Who waits for something else meanwhile has to `leave`."""
        self._files.acquire()
        self._sessions.acquire()

    def leave(self) -> None:
        self._sessions.release()
        self._files.release()

    def borrow(self) -> Any:
        """A session for one caller."""
        return self._pool.borrow()[0]

    def give_back(self, sftp: Any, *, broken: bool) -> None:
        """The session of `borrow`; a broken one is thrown away."""
        self._pool.give_back(sftp, broken=broken)

    @contextlib.contextmanager
    def explained(self, name: str) -> Iterator[None]:
        """Makes what paramiko raises a StoreError about `name`."""
        place = f"{self.place}:{name}" if name else self.place
        try:
            yield
        except self.lost as error:
            raise Transient(f"{place}: the connection was lost: {str(error) or type(error).__name__}") from error
        except OSError as error:
            raise _wrong(place, error) from error

    @contextlib.contextmanager
    def _session(self, name: str) -> Iterator[Any]:
        with self.explained(name), self._sessions:
            sftp = self.borrow()
            broken = False
            try:
                yield sftp
            except self.lost:
                broken = True
                raise
            finally:
                self.give_back(sftp, broken=broken)


class SftpWriter(Writer):
    """Writes are sent without waiting for each answer; a write that failed is known at commit at the latest."""

    def __init__(self, store: SftpStore, target: Target, mode: int) -> None:
        self._store = store
        self._target = target
        self._written = 0
        self._mode = mode
        self._temporary = b""
        self._file: Any = None
        self._sftp: Any = None
        self._broken = False
        *folders, name = target.name.split("/")
        self._entered = False
        self._enter()
        try:
            with self._careful():
                self._sftp = store.borrow()
                folder = _make_folders(self._sftp, store, target, folders)
                self._final = folder + name.encode("utf-8", "surrogateescape")
                if _is_folder(self._sftp.lstat, self._final):
                    raise Permanent(f"{target.path}: a folder is in the place of the file; a destination that is a folder ends in /")
                self._temporary = folder + unfinished_name(store.tag, name).encode()
                with contextlib.suppress(FileNotFoundError):  # of an earlier run that was killed
                    self._sftp.remove(self._temporary)
                self._file = self._sftp.open(self._temporary, "wx")
                self._sftp.chmod(self._temporary, 0o600)
                self._writing = self._begin()
        except BaseException:
            self.abandon()
            raise

    def rest(self) -> None:
        """The session is given back, the file stays."""
        with self._careful():
            self._writing.flush()
            self._file.close()
        self._let_go()

    def go_on(self) -> None:
        self._enter()
        with self._careful():
            self._sftp = self._store.borrow()
            self._file = self._sftp.open(self._temporary, "r+b")
            if self._file.stat().st_size != self._written:
                raise Transient(f"{self._target.path}: what had arrived has gone")
            self._writing = self._begin()

    def _begin(self) -> sftp_wire.Writing:
        return sftp_wire.Writing(self._sftp, self._file.handle, self._written, self._store.limits(self._sftp).write)

    def _enter(self) -> None:
        self._store.enter()
        self._entered = True

    def _let_go(self) -> None:
        if self._sftp is not None:
            self._store.give_back(self._sftp, broken=self._broken)
            self._sftp = None
        if self._entered:
            self._entered = False
            self._store.leave()

    def write(self, data: bytes) -> None:
        with self._careful():
            self._writing.write(data)
        self._written += len(data)

    @property
    def temporary(self) -> bytes:
        """What the file is called over there until it is whole."""
        return self._temporary

    def written_there(self, size: int) -> None:
        """So many bytes of it were written over there."""
        self._written += size

    def commit(self, sha256: str) -> Arrived:
        verified = "size"
        with self._careful():
            self._writing.flush()
            self._file.close()
            there = self._sftp.stat(self._temporary).st_size
            if there != self._written:
                raise Transient(f"{self._target.path}: {there} of {self._written} bytes arrived")
            if (digest := self._store.sum_of(self._temporary)) is not None:
                verified = "sha256"
                if digest != sha256:
                    raise Transient(f"{self._target.path}: something else arrived than was sent")
            self._sftp.chmod(self._temporary, self._mode)
            self._sftp.posix_rename(self._temporary, self._final)
            self._temporary = b""
            found = self._sftp.stat(self._final)
        self.abandon()
        return Arrived(_entry(self._target.path, found), verified)

    def abandon(self) -> None:
        if not self._broken and self._temporary:
            with contextlib.suppress(Exception):  # an error of an earlier write comes out here, or there is no connection
                if self._sftp is None:
                    self._enter()
                    self._sftp = self._store.borrow()
                else:
                    self._file.close()
            with contextlib.suppress(Exception):
                self._sftp.remove(self._temporary)
        self._temporary = b""
        self._let_go()

    @contextlib.contextmanager
    def _careful(self) -> Iterator[None]:
        with self._store.explained(self._target.path):
            try:
                yield
            except self._store.lost:
                self._broken = True
                raise


def _make_folders(sftp: Any, store: SftpStore, target: Target, folders: list[str]) -> bytes:
    """The folder of the target, made if need be, as bytes that end in a slash. Below the target's folder no link is followed."""
    place = ""
    for part in target.folder.split("/")[:-1]:
        place += f"{part}/"
        path = store.path(place)
        if part and not _is_folder(sftp.stat, path):
            _make(sftp, path)
    for part in folders:
        place += f"{part}/"
        path = store.path(place).rstrip(b"/")
        try:
            found = sftp.lstat(path).st_mode
        except FileNotFoundError:
            _make(sftp, path)
        else:
            if not stat.S_ISDIR(found):
                raise Permanent(f"{place}: a link or a file is on the way; nothing is written through it")
    return store.path(place) if place else store.path("").rstrip(b"/") + b"/"


def _is_folder(look: Callable[[bytes], Any], path: bytes) -> bool:
    try:
        return stat.S_ISDIR(look(path).st_mode)
    except FileNotFoundError:
        return False


def _make(sftp: Any, path: bytes) -> None:
    try:
        sftp.mkdir(path)
    except OSError:
        if not _is_folder(sftp.lstat, path):  # made meanwhile by another transfer is as good
            raise


def _wrong(place: str, error: OSError) -> StoreError:
    if error.errno is None and isinstance(error, PermissionError):  # no login, no such host: in words of our own
        return Denied(f"{place}: {error}")
    said = (error.strerror or str(error) or type(error).__name__).lower()
    if error.errno == errno.ENOENT:
        return Missing(f"{place}: {said}")
    if error.errno == errno.EACCES:
        return Denied(f"{place}: {said}")
    if error.errno is None:  # SSH_FX_FAILURE: the server does not say why, a full disk among other things
        return Transient(f"{place}: {said}")
    return Permanent(f"{place}: {said}")


def _entry(name: str, found: Any) -> Entry:
    return Entry(name, found.st_size, f"~{found.st_size}-{found.st_mtime}", bool(found.st_mode & 0o100))
