"""An append-only file of whole lines: one write per batch, made durable by a thread of its own.

What it guards against: short writes, a disk that fills up in the middle of a line, an fsync that fails after the write went well, a
torn last line of a crashed run, and a file that is deleted or cut short by someone else while it is written. After the first failure
nothing is written to the file any more; lines are then saved beside it (see rescue) and each write raises.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from taskrun import threads
from taskrun.errors import RecordsFailed, Refused
from taskrun.status import opening, rescue, trust
from taskrun.status.durable import sync_folder
from taskrun.status.rescue import Unwritten

#: A record is durable at the latest this many seconds (and the length of one fsync) after it was written.
SYNC_SECONDS = 0.5
#: How often a file nobody writes to is looked after (has it been deleted?).
IDLE_SECONDS = 30.0
_BLOCK = 1 << 16


class LineFile:
    """Appends whole lines to `path`. One thread may call `write` and `close`.

    `append`: continue the file (made if absent); otherwise it must not exist. `may_be_torn(rest)`: whether the rest of a last line without
    newline can be ours; it is cut off then and kept in `torn`, and anything else is refused. `on_error` is called from the fsync thread,
    once, with the RecordsFailed. Raises Refused when the file cannot be opened, Untrusted when somebody else may have written to it before.
    """

    def __init__(
        self,
        path: Path,
        *,
        append: bool = False,
        may_be_torn: Callable[[bytes], bool] = lambda _: True,
        on_error: Callable[[RecordsFailed], None] | None = None,
        sync_seconds: float = SYNC_SECONDS,
    ) -> None:
        self.path = path
        self.torn = b""
        self._on_error = on_error
        self._sync_seconds = sync_seconds
        self._fd = _open(path, append)
        try:
            if append:
                self.torn = _cut_torn(self._fd, path, may_be_torn)
            self._size = os.fstat(self._fd).st_size  # what the file has at least, unless someone else cut it short
            self.empty = self._size == 0  # nothing had been written when it was opened
        except BaseException:
            os.close(self._fd)
            raise
        sync_folder(path.parent)
        self._mutex = threading.Lock()
        self._unsynced: list[bytes] = []  # what the disk has not promised to keep; saved beside if it never does
        self._failures: list[Unwritten] = []
        self._undelivered: list[Unwritten] = []  # those of the failures that no one has been told
        self._dirty = threading.Event()
        self._stop = threading.Event()
        self._closed = False
        self._thread = threads.start(self._keep_durable, f"fsync {path.name}")

    def write(self, lines: Iterable[bytes]) -> None:
        """Appends the lines (each with its newline) in one write. Raises RecordsFailed; what was written whole stays written."""
        batch = b"".join(lines)
        if not batch:
            return
        if self._closed or not batch.endswith(b"\n"):
            raise ValueError("a batch is whole lines, written before the file is closed")
        if self._failures:
            raise rescue.unwritten(self.path, "takes no more lines after it failed", None, batch)
        done = 0
        view = memoryview(batch)
        try:
            while done < len(batch):
                taken = os.write(self._fd, view[done:])
                if not taken:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                done += taken
        except OSError as error:
            whole = batch.rfind(b"\n", 0, done) + 1
            with contextlib.suppress(OSError):  # else the torn line stays last: nothing is ever glued to it, and readers leave it out
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - (done - whole))
            self._written(batch[:whole])
            failure = rescue.unwritten(self.path, "cannot be written", error, batch[whole:])
            self._fail(failure, delivered=True)
            raise failure from error
        self._written(batch)

    def close(self) -> None:
        """The last fsync. Raises RecordsFailed if this or anything before it failed; its `lines` are those not yet given to anyone."""
        if self._closed:
            return
        self._closed = True
        self._stop.set()
        self._dirty.set()
        self._thread.join()
        self._sync()
        try:
            os.close(self._fd)
        except OSError as error:  # network file systems may notice only now
            self._fail(rescue.unwritten(self.path, "could not be closed", error, b""))
        if self._failures:
            news = self._undelivered or self._failures[:1]
            lines = [line for failure in self._undelivered for line in failure.lines]
            saved = [where for failure in self._failures for where in failure.saved]
            raise Unwritten("; ".join(str(failure) for failure in news), tuple(lines), tuple(dict.fromkeys(saved)))

    def _written(self, batch: bytes) -> None:
        # After the write, never before: an fsync that began earlier must not count for it.
        with self._mutex:
            self._unsynced.append(batch)
            self._size += len(batch)
        self._dirty.set()

    def _fail(self, failure: Unwritten, *, delivered: bool = False) -> None:
        with self._mutex:
            self._failures.append(failure)
            if not delivered:
                self._undelivered.append(failure)

    def _keep_durable(self) -> None:
        while not self._stop.is_set():
            if self._dirty.wait(IDLE_SECONDS):
                self._stop.wait(self._sync_seconds)
            self._sync()
            if self._failures:
                if self._on_error is not None and self._undelivered:
                    self._on_error(self._undelivered.pop(0))
                return

    def _sync(self) -> None:
        """One fsync, and a look whether the file still has a name."""
        self._dirty.clear()
        with self._mutex:
            batches, self._unsynced = self._unsynced, []
            size = self._size
        try:
            if batches:
                os.fsync(self._fd)
            if self._failures:
                return
            if _is_deleted(self._fd):
                content = b"".join(_content(self._fd))
                self._fail(rescue.unwritten(self.path, "was deleted while the run was writing to it", None, content))
            elif os.fstat(self._fd).st_size < size:
                what = "was cut short by someone else while the run was writing to it: earlier lines are lost"
                self._fail(rescue.unwritten(self.path, what, None, b"".join(batches)))
        except OSError as error:
            if batches or not self._failures:
                self._fail(rescue.unwritten(self.path, "could not be made durable", error, b"".join(batches)))


def _open(path: Path, append: bool) -> int:
    try:
        fd = opening.own(path) if append else opening.new(path)
    except FileExistsError:
        raise Refused(f"{path} exists already: give another prefix with -p, resume it with -r, or continue it with --append") from None
    except OSError as error:
        raise Refused(f"{path} cannot be opened for writing: {error.strerror}") from error
    if append and os.fstat(fd).st_size:
        try:
            trust.check(fd, path)
        except BaseException:
            os.close(fd)
            raise
    return fd


def _cut_torn(fd: int, path: Path, may_be_torn: Callable[[bytes], bool]) -> bytes:
    """Cuts a last line without newline off, so that no record is glued to it; returns it."""
    size = os.fstat(fd).st_size
    rest = b""
    at = size
    while at:
        block = min(_BLOCK, at)
        at -= block
        rest = os.pread(fd, block, at) + rest
        newline = rest.rfind(b"\n")
        if newline >= 0:
            rest = rest[newline + 1 :]
            break
    if rest:
        if not may_be_torn(rest):
            raise Refused(f"{path} ends in something that is no part of a record: it is not continued, give another file")
        try:
            os.ftruncate(fd, size - len(rest))
        except OSError as error:
            raise Refused(f"{path} cannot be continued: {os.strerror(error.errno or 0)}") from error
    return rest


def _is_deleted(fd: int) -> bool:
    if os.fstat(fd).st_nlink == 0:
        return True
    try:  # NFS keeps a deleted file that is open under another name until it is closed
        return Path(f"/proc/self/fd/{fd}").readlink().name.startswith(".nfs")
    except OSError:
        return False


def _content(fd: int) -> Iterable[bytes]:
    at = 0
    while block := os.pread(fd, 1 << 20, at):
        yield block
        at += len(block)
