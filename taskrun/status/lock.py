"""PREFIX.lock: one driver per prefix, on shared file systems too, without flock.

A lock file appears whole (a link to a finished temporary file). Whoever wants to *remove or replace* a lock file that exists must first
make the claim file whose name follows from that lock file's content, and look again whether the lock still has this content. A claim is
made as a lock is, so one process at a time can touch one particular lock: two takers cannot both win, and an owner that comes back
cannot remove its successor's lock. A claim whose maker died is passed over by the next number.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shlex
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from taskrun.errors import Refused
from taskrun.status import names, opening, owner
from taskrun.status.durable import NO_LINKS, sync_folder, write_all
from taskrun.status.owner import Owner

#: Silence after which the owner of a lock on another host is given up, in seconds (--lost-after).
LOST_AFTER = 180.0
#: A claim is held for milliseconds. Whoever meets one waits so long before it gives up.
_PATIENCE = 5.0


class Lock:
    """A lock that this process holds. Made by `acquire`.

    `previous`: whose dead lock it took over, if it did, `silence` seconds after that was touched last.
    """

    def __init__(self, path: Path, content: bytes, previous: Owner | None, silence: float = 0.0) -> None:
        self.path = path
        self.previous = previous
        self.silence = silence
        self._content = content
        self._fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)  # touches this very file, never a successor's

    def touch(self) -> bool:
        """A sign of life, to be given every 10 s. False: another run has taken this lock over, and this one must stop."""
        try:
            os.utime(self._fd)  # by the file server's clock
            return os.fstat(self._fd).st_nlink > 0 and _read(self.path) == self._content
        except FileNotFoundError:
            return False
        except OSError as error:
            return error.errno != errno.ESTALE  # a file server that is away for a while is no reason to stop

    def release(self) -> None:
        """Removes the lock if it is still ours. Never raises: a lock that stays is seen to be dead by the next run."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        with contextlib.suppress(OSError, Refused):
            mine = _Draft(self.path, self._content)
            try:
                with _claim(self.path, self._content, mine, LOST_AFTER) as claimed:
                    if claimed and _read(self.path) == self._content:
                        self.path.unlink()
            finally:
                mine.discard()


def acquire(prefix: Path, run_id: str, *, take_over: bool = False, lost_after: float = LOST_AFTER) -> Lock:
    """Takes the lock of `prefix` for this process.

    A dead owner's lock is taken over. An owner on another host is given up after `lost_after` seconds of silence by the file server's
    clock, or at once with `take_over`. Raises Refused: who holds it and what to do, or why the folder takes no lock.
    """
    path = names.with_suffix(prefix, names.LOCK)
    content = owner.this_process(run_id).to_json()
    try:
        return _acquire(path, content, take_over, lost_after)
    except OSError as error:
        raise Refused(f"{path} cannot be made: {os.strerror(error.errno or 0)}; give another prefix with -p") from error


def acquire_or_check(prefix: Path, run_id: str, *, take_over: bool = False, lost_after: float = LOST_AFTER) -> Lock | None:
    """As `acquire`; where the folder cannot be written to, only looks that no one holds the lock and returns None."""
    path = names.with_suffix(prefix, names.LOCK)
    content = owner.this_process(run_id).to_json()
    try:
        return _acquire(path, content, take_over, lost_after)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise Refused(f"{path} cannot be made: {os.strerror(error.errno or 0)}") from error
    try:
        held = _read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(_unreadable(path, error)) from error
    with contextlib.suppress(FileNotFoundError):
        silence = max(0.0, time.time() - path.stat().st_mtime)  # nothing can be made there that would tell the server's clock
        _refuse_unless_dead(path, held, silence, take_over, lost_after)
    return None


def holder(path: Path, lost_after: float = LOST_AFTER) -> str:
    """Return the run that holds a lock, or may; '' if there is none, or its owner is dead or has been silent for `lost_after` seconds."""
    try:
        held = owner.from_json(_read(path))
        silent = time.time() - path.stat().st_mtime >= lost_after
    except FileNotFoundError:
        return ""
    except OSError:
        return path.name.removesuffix(names.LOCK)
    life = owner.life_of(held) if held is not None else "unknown"
    return "" if life == "dead" or (life == "unknown" and silent) else path.name.removesuffix(names.LOCK)


def _acquire(path: Path, content: bytes, take_over: bool, lost_after: float) -> Lock:
    draft = _Draft(path, content)
    previous, silence = None, 0.0
    try:
        patience = time.monotonic() + _PATIENCE
        while not draft.place(path):
            try:
                held = _read(path)
                silence = draft.silence_of(path)
            except FileNotFoundError:
                continue  # released just now
            except PermissionError as error:
                raise Refused(_unreadable(path, error)) from error
            _refuse_unless_dead(path, held, silence, take_over, lost_after)
            with _claim(path, held, draft, lost_after) as claimed:
                if claimed and _read(path, missing=b"") == held:
                    draft.replace(path)
                    previous = owner.from_json(held)
                    break
            if time.monotonic() > patience:
                raise Refused(f"{path} is just being taken over by another run: try again in a moment")
            time.sleep(0.01)
        sync_folder(path.parent)
        try:
            return Lock(path, content, previous, silence)
        except OSError:  # one that its owner may not open, as by an odd umask, would block the prefix
            path.unlink()
            raise
    finally:
        draft.discard()
        _clear(path, content)


def _clear(lock: Path, mine: bytes) -> None:
    """Removes what killed processes left beside a lock that is ours: drafts and claims, which no longer mean anything."""
    with contextlib.suppress(OSError):
        if _read(lock) != mine:
            return
        for left in lock.parent.iterdir():
            if left.name.startswith(f"{lock.name}.") and _digest(mine) not in left.name:
                maker = owner.from_json(_read(left))
                if maker and owner.life_of(maker) == "dead":
                    left.unlink()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _refuse_unless_dead(path: Path, held: bytes, silence: float, take_over: bool, lost_after: float) -> None:
    holder = owner.from_json(held)
    life = owner.life_of(holder) if holder else "unknown"
    if life == "dead" or (life == "unknown" and (take_over or silence >= lost_after)):
        return
    if holder is None:
        raise Refused(
            f"{path} is there but does not say whose it is: wait until it has been silent for {lost_after:.0f} s "
            f"(now {silence:.0f} s), or give --take-over if no other run uses this prefix"
        )
    strange = _of_another_user(path)
    who = f"run {holder.run_id} (process {holder.pid} on {holder.host}, since {_clock(holder.since)})"
    if life == "alive":
        raise Refused(f"{path} is held by {who}, which is running: wait, end it (kill {holder.pid}) or give another -p{strange}")
    raise Refused(
        f"{path} is held by {who}, last heard of {silence:.0f} s ago: wait until it has been silent for {lost_after:.0f} s, "
        f"or give --take-over if it certainly runs no more{strange}"
    )


def _unreadable(path: Path, error: OSError) -> str:
    """What is wrong with a lock that cannot be read, and what to do."""
    text = f"{path} cannot be read: {os.strerror(error.errno or 0)}"
    with contextlib.suppress(OSError):
        found = path.lstat()
        if error.errno == errno.EACCES and found.st_uid == os.geteuid() and not found.st_mode & stat.S_IRUSR:
            text += (
                f"; it is yours, made under an odd umask: `chmod 600 {shlex.quote(str(path))}`, then it tells whether its run still lives"
            )
    return text + _of_another_user(path)


def _of_another_user(lock: Path) -> str:
    """As the end of a sentence about a lock that another user has made: who, and what helps where that was no run. '' for our own."""
    try:
        uid = lock.lstat().st_uid
    except OSError:
        return ""
    if uid in (0, os.geteuid()):
        return ""
    name = opening.user(uid)
    return (
        f"; the lock belongs to {name}: if {name} does not carry your run on, copy {lock.stem}_* to a folder of your own and resume there"
    )


def _clock(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "?"


class _Draft:
    """A finished temporary file beside the lock, that becomes the lock, or a claim, in one step."""

    def __init__(self, lock: Path, content: bytes) -> None:
        self._path = lock.with_name(f"{lock.name}.{os.urandom(6).hex()}")
        self._content = content
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        try:
            write_all(self._fd, content)
            os.fsync(self._fd)
        except BaseException:
            self.discard()
            raise

    def place(self, where: Path) -> bool:
        """Puts the content at `where`; False if something is there."""
        try:
            os.link(self._path, where)
        except FileExistsError:
            return os.fstat(self._fd).st_nlink > 1 and _same_file(self._path, where)  # NFS: done, but the answer was lost
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return self._place_without_link(where)
        return True

    def _place_without_link(self, where: Path) -> bool:
        try:
            fd = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        except FileExistsError:
            return False
        try:
            write_all(fd, self._content)
            os.fsync(fd)
        except BaseException:
            with contextlib.suppress(OSError):
                where.unlink()
            raise
        finally:
            os.close(fd)
        return True

    def replace(self, where: Path) -> None:
        """Puts this file at `where`, whatever is there."""
        self._path.replace(where)

    def silence_of(self, path: Path) -> float:
        """How long ago `path` was touched, in seconds of the file server's clock. Raises FileNotFoundError."""
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening makes NFS ask the server
        try:
            touched = os.fstat(fd).st_mtime
        finally:
            os.close(fd)
        os.utime(self._fd)
        return max(0.0, os.fstat(self._fd).st_mtime - touched)

    def discard(self) -> None:
        """Removes the temporary name; what was placed stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with contextlib.suppress(OSError):
            self._path.unlink()


@contextlib.contextmanager
def _claim(lock: Path, held: bytes, draft: _Draft, lost_after: float) -> Iterator[bool]:
    """The sole right to remove or replace the lock file with the content `held`; yields False if another process has it now."""
    digest = _digest(held)
    number = 0
    while True:
        claim = lock.with_name(f"{lock.name}.claim-{digest}-{number}")
        if draft.place(claim):
            break
        try:
            if _is_void(claim, lock):
                number += 1
                continue
            maker = owner.from_json(_read(claim))
            life = owner.life_of(maker) if maker else "unknown"
            silent = draft.silence_of(claim) >= lost_after
        except FileNotFoundError:
            continue
        if life == "alive" or (life == "unknown" and not silent):
            yield False
            return
        number += 1
    try:
        yield True
    finally:
        for done in range(number + 1):
            with contextlib.suppress(OSError):
                lock.with_name(f"{lock.name}.claim-{digest}-{done}").unlink()


def _is_void(claim: Path, lock: Path) -> bool:
    """Its maker could not remove the lock: the folder is sticky, and another user has laid the claim there. Raises FileNotFoundError."""
    folder = lock.parent.stat()
    if not folder.st_mode & stat.S_ISVTX:
        return False
    able = {0, folder.st_uid}
    with contextlib.suppress(FileNotFoundError):  # then there is nothing to be removed
        able.add(lock.lstat().st_uid)
    return claim.lstat().st_uid not in able


def _read(path: Path, missing: bytes | None = None) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        if missing is None:
            raise
        return missing
    try:
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)


def _same_file(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return False
