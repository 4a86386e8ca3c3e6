"""What the tasks of a slot leave behind, which the slot adopts: it is a subreaper, so that one call tells whether there is any.

Of whatever a task has left, the topmost process is a child of the slot, also if it has a session of its own or an emptied environment.
Not found: what a service of the system has started for the task (systemd-run, docker, at, sbatch). Where a slot cannot adopt, only the
process group of the task is looked at, unless what is left is to be ended: then /proc is, after each task, for its session and its mark.
"""

import posix
import select
import time

try:
    from . import ending
except ImportError:  # in a slot
    import ending  # type: ignore[import-not-found,no-redef]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CAUSE, CODE = "leftovers", 76  # of a task that ended with 0 and left something, with --leftovers fail; 74 is staging's
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
MOMENT = 0.02  # seconds in which what is just ending (`tee` in `>(tee log)`) ends without having been left; less where none does
LONG_MOMENT = 0.5  # the same where it would be ended
GIVE_UP = 2.0  # seconds after KILL, for processes that it does not end: of another user, or waiting for a dead disk
TOLD_MOST = 100  # processes of one attempt of which the agent is told
NAMED_MOST = 3
COMMAND_MOST = 200  # bytes


def adopt() -> bool:
    """Become the parent of all orphans below this process. False where the system or this Python cannot."""
    try:
        import _ctypes  # not `ctypes`, which takes 10 ms

        loaded = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
        prctl = _ctypes.dlsym(loaded, "prctl")
        done: bool = _ctypes.call_function(prctl, (SUBREAPER, 1, 0, 0, 0)) == 0
        return done
    except (ImportError, AttributeError, TypeError, ValueError, OSError, MemoryError):  # no _ctypes here, a static libc, ...
        return False


class Orphans(object):
    """Those of one slot."""

    def __init__(self, slot: "Any") -> None:
        self.slot = slot
        self.how = "keep"  # or end, or fail: what becomes of them
        self.adopting = adopt()
        self.moment = MOMENT
        self.patience = LONG_MOMENT  # the same for what is busy, less where one stays so
        self.kept: set = set()  # left by earlier attempts
        self.asleep = select.poll()
        self.asleep.register(slot.wake, select.POLLIN)

    def wait(self, pid: int) -> tuple:
        """Do as wait4 without waiting, for a task's bash. Orphans that have ended meanwhile leave the table of processes."""
        if not self.adopting:
            return posix.wait4(pid, posix.WNOHANG)
        while True:
            found = posix.wait4(-1, posix.WNOHANG)
            if found[0] == pid or not found[0]:
                return found
            self.kept.discard(found[0])

    def reap(self) -> bool:
        """Take those that have ended out of the table of processes. Whether one lives."""
        try:
            while self.adopting:
                pid = posix.wait4(-1, posix.WNOHANG)[0]
                if not pid:
                    return True
                self.kept.discard(pid)
        except OSError:
            self.kept.clear()
        return False

    def any(self, kind: str, leader: int, mark: bytes) -> bool:
        """Return whether the attempt of `leader`, which has ended, may have left a process. Cheap: it is asked after each task."""
        if self.adopting:
            if not self.reap():
                return False
            children = ending.children(posix.getpid()) if self.kept else None
            return children is None or not self.kept.issuperset(children)
        if self.how != "keep" and kind == "task":
            return bool(ending.processes(mark, leader))
        try:
            posix.killpg(leader, 0)
        except OSError:
            return False
        return True

    def processes(self, mark: bytes, leader: int) -> list:
        """Return the processes of an attempt, as `ending.processes`, and with them what has given up both session and mark."""
        return ending.processes(mark, leader, self.kept if self.adopting else None)

    def rest(self, mark: bytes, leader: int) -> list:
        """Return the same, and none only if there is none: one look at /proc misses a child whose parent ends meanwhile."""
        while True:
            found = self.processes(mark, leader)
            if found or not self.adopting or not self.reap():
                return found
            new = set(ending.children(posix.getpid()) or ()) - self.kept
            if not new:
                return []
            self.kept.update(pid for pid in new if ending.is_strange(pid, mark))

    def topmost(self, mark: bytes, leader: int) -> list:
        """Return those of them that are children of the slot: without a look at /proc, for files in which all lines end in `&`."""
        children = ending.children(posix.getpid()) if self.adopting else None
        if children is None:
            return self.rest(mark, leader)
        return [pid for pid in children if pid not in self.kept and not ending.is_strange(pid, mark)]

    def is_busy(self) -> bool:
        """Return whether one of them is about to do something: on a busy machine what is just ending takes longer than a moment."""
        pids = [pid for pid in (ending.children(posix.getpid()) if self.adopting else None) or () if pid not in self.kept]
        while pids:
            pid = pids.pop()
            try:
                with open("/proc/%d/stat" % pid, "rb") as file:
                    state = file.read().rpartition(b") ")[2][:1]
            except OSError:
                return True  # it has just ended
            if state in b"RDZX":
                return True
            pids += ending.children(pid) or ()
        return False

    def settle(self, kind: str, leader: int, mark: bytes, own: bool) -> tuple:
        """Deal with what the attempt has left. (whether it has left anything, what that was if it was ended).

        `own`: it has ended by itself. What PERENGINE commands leave is kept: servers are started by them.
        """
        to_end = self.how != "keep" and kind == "task" and own
        began = time.monotonic()
        until = began + (LONG_MOMENT if to_end else self.moment)
        pause = 0.001
        while self.any(kind, leader, mark):
            now = time.monotonic()
            if now >= until and not self.is_busy():
                break
            if now >= max(until, began + self.patience):
                self.patience /= 2
                break
            self.sleep(min(pause, max(0.001, until - now)))
            pause *= 2
        else:
            self.moment, self.patience = MOMENT, LONG_MOMENT
            return False, b""
        self.moment = max(0.001, self.moment / 2)
        left = rest = self.rest(mark, leader) if to_end else self.topmost(mark, leader)
        said = b""
        if to_end and left:
            names = named(left)
            rest = self.end(leader, mark, left)
            count, which = len(left), b"which was ended" if len(left) == 1 else b"which were ended"
            which = b"of which %d could not be ended" % len(rest) if rest else which
            said = b"left %d process%s behind, %s: %s" % (count, b"" if count == 1 else b"es", which, names)
        if self.adopting:
            children = ending.children(posix.getpid())
            self.kept.update(rest if children is None else children)
        if rest:
            self.slot.send_left(rest[:TOLD_MOST])
        return bool(left), said

    def end(self, leader: int, mark: bytes, left: list) -> list:
        """TERM, the grace, KILL; what is left even then. The slot hears its agent meanwhile, which may be in more of a hurry."""
        now = time.monotonic()
        kill_at = now + self.slot.grace
        hurry = None
        pause = 0.01
        ending.signal_all(left, ending.TERM)
        while left and now < kill_at + GIVE_UP:
            if now >= kill_at:
                ending.signal_all(left, ending.KILL)
            self.sleep(pause)
            pause = min(0.2, 2 * pause)
            if hurry is None:
                hurry = self.slot.hurry()
                kill_at = kill_at if hurry is None else min(kill_at, now + hurry)
            left = self.rest(mark, leader)
            now = time.monotonic()
        return left

    def sleep(self, seconds: float) -> None:
        """Wait so long, or until a child has ended."""
        if self.asleep.poll(seconds * 1000 + 1):
            posix.read(self.slot.wake, 512)


def named(pids: list) -> bytes:
    """Return the first few of them with their command lines."""
    some = b"; ".join(b"%d %s" % (pid, ending.command(pid)[:COMMAND_MOST]) for pid in pids[:NAMED_MOST])
    return some + b"; and %d more" % (len(pids) - NAMED_MOST) if len(pids) > NAMED_MOST else some
