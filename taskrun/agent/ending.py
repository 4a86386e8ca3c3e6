"""Ending an attempt: its session, and whatever in /proc carries its mark.

A mark is the value of TASKRUN_ATTEMPT, `<run>.<id>.<n>`; children that started sessions of their own still carry it.
A nested run moves the outer mark to TASKRUN_OUTER, so that ending the outer attempt finds the inner one's processes too.
"""

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KILL = 9
TERM = 15


def _read(path: str) -> bytes:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    try:
        chunks: list = []
        while True:
            chunk = posix.read(fd, 65536)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
    except OSError:
        return b""
    finally:
        posix.close(fd)


def _words(environ: bytes) -> list:
    """Return the marks in an environment block."""
    words: list = []
    for field in environ.split(b"\0"):
        name, _, value = field.partition(b"=")
        if name in (b"TASKRUN_ATTEMPT", b"TASKRUN_OUTER"):
            words += value.split(b" ")
    return words


def carries(environ: bytes, mark: bytes) -> bool:
    """Whether an environment block names the mark. `<run>.` stands for all marks of a run."""
    words = _words(environ)
    return mark in words or (mark.endswith(b".") and any(word.startswith(mark) for word in words))


def _has_mark(environ: bytes) -> bool:
    return b"\0TASKRUN_ATTEMPT=" in b"\0" + environ


def is_strange(pid: int, mark: bytes) -> bool:
    """Return whether a process belongs to another attempt."""
    environ = _read("/proc/%d/environ" % pid)
    return _has_mark(environ) and not carries(environ, mark)


def marks(pid: int) -> list:
    """Return the marks that a process carries."""
    return _words(_read("/proc/%d/environ" % pid))


def place(stat: bytes) -> tuple:
    """(state, parent, session id) from the text of /proc/PID/stat; the command's name may hold blanks and brackets."""
    fields = stat[stat.rfind(b")") + 2 :].split(b" ", 4)
    if len(fields) < 4:
        return b"X", -1, -1
    return fields[0], int(fields[1]), int(fields[3])


def begun(pid: int) -> int:
    """Return when the process began, in ticks since the boot: with its id, who it is. 0 when it is gone."""
    stat = _read("/proc/%d/stat" % pid)
    fields = stat[stat.rfind(b")") + 2 :].split(b" ", 20)
    return int(fields[19]) if len(fields) > 19 and fields[0] not in (b"X", b"Z") else 0


def command(pid: int) -> bytes:
    """Return the command line of a process, or its name in brackets."""
    stat = _read("/proc/%d/stat" % pid)
    words = _read("/proc/%d/cmdline" % pid).rstrip(b"\0").replace(b"\0", b" ")
    return words or b"[" + stat[stat.find(b"(") + 1 : stat.rfind(b")")] + b"]"


def children(pid: int) -> "Any":
    """Return the children of a process that has no threads. None where the kernel does not tell."""
    path = "/proc/%d/task/%d/children" % (pid, pid)
    listed = _read(path)
    return [int(each) for each in listed.split()] if listed or posix.access(path, posix.R_OK) else None


def disposition(pid: int, number: int) -> str:
    """Return what the process does with signal `number`: caught (or blocked, to be fetched), ignored, default; '' when it is gone."""
    stat = _read("/proc/%d/stat" % pid)
    fields = stat[stat.rfind(b")") + 2 :].split(b" ")
    if len(fields) < 32 or fields[0] in (b"X", b"Z"):
        return ""
    blocked, ignored, caught = [int(field) >> (number - 1) & 1 for field in fields[29:32]]
    return "caught" if caught or blocked else "ignored" if ignored else "default"


def answers(pids: list, leader: int, number: int) -> bool:
    """Return whether `leader` may end with 0 because signal `number` is sent to all of `pids`, and not because its work is done.

    It may if a process catches the signal, or if the leader ignores it and outlives one that it ends.
    """
    if leader not in pids:
        return False  # it has ended
    found = [disposition(pid, number) for pid in pids]
    return "caught" in found or (disposition(leader, number) == "ignored" and "default" in found)


def processes(mark: bytes, leader: int = 0, kept: "Any" = None) -> list:
    """Process ids that live and carry `mark`, or belong to a session of one that does, or to the session of `leader`. It comes first.

    A child with an emptied environment is still in its task's session. `kept`, where this process adopts orphans: what is below it
    belongs to the attempt, too, but for these processes, those that carry another attempt's mark, and what is below them.
    """
    own = posix.getpid()
    sessions = {leader} if leader else set()
    table = {}
    below: dict = {}  # parent -> its children
    found = set()
    for name in posix.listdir("/proc"):
        if not name.isdigit() or int(name) == own:
            continue
        pid = int(name)
        state, parent, sid = place(_read("/proc/%d/stat" % pid))
        if state in (b"X", b"Z"):
            continue
        table[pid] = sid
        environ = _read("/proc/%d/environ" % pid)
        if carries(environ, mark):
            found.add(pid)
            sessions.add(sid)
        elif kept is not None and pid not in kept and not _has_mark(environ):
            below.setdefault(parent, []).append(pid)
    if kept is not None:
        todo = below.get(own, []) + [each for pid in found for each in below.get(pid, ())]
        while todo:
            pid = todo.pop()
            if pid not in found:
                found.add(pid)
                todo += below.get(pid, ())
    pids = [pid for pid, sid in table.items() if pid in found or sid in sessions]
    return sorted(pids, key=leader.__ne__)  # were it told after its children, it could go on without them and end with 0


def signal_all(pids: list, number: int) -> None:
    for pid in pids:
        try:
            posix.kill(pid, number)
        except OSError:
            pass  # gone, or not ours
