"""Ending an attempt: its session, and whatever in /proc carries its mark.

A mark is the value of TASKRUN_ATTEMPT, `<run>.<id>.<n>`; children that started sessions of their own still carry it.
A nested run moves the outer mark to TASKRUN_OUTER, so that ending the outer attempt finds the inner one's processes too.
"""

import posix

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


def carries(environ: bytes, mark: bytes) -> bool:
    """Whether an environment block names the mark. `<run>.` stands for all marks of a run."""
    for field in environ.split(b"\0"):
        name, _, value = field.partition(b"=")
        if name in (b"TASKRUN_ATTEMPT", b"TASKRUN_OUTER"):
            words = value.split(b" ")
            if mark in words or (mark.endswith(b".") and any(word.startswith(mark) for word in words)):
                return True
    return False


def session(stat: bytes) -> tuple:
    """(state, session id) from the text of /proc/PID/stat; the command's name may hold blanks and brackets."""
    fields = stat[stat.rfind(b")") + 2 :].split(b" ")
    if len(fields) < 4:
        return b"X", -1
    return fields[0], int(fields[3])


def processes(mark: bytes, leader: int = 0) -> list:
    """Process ids that live and carry `mark`, or belong to a session of one that does, or to the session of `leader`.

    A child with an emptied environment is still in its task's session.
    """
    own = posix.getpid()
    sessions = {leader} if leader else set()
    table = {}
    found = set()
    for name in posix.listdir("/proc"):
        if not name.isdigit() or int(name) == own:
            continue
        pid = int(name)
        state, sid = session(_read("/proc/%d/stat" % pid))
        if state in (b"X", b"Z"):
            continue
        table[pid] = sid
        if carries(_read("/proc/%d/environ" % pid), mark):
            found.add(pid)
            sessions.add(sid)
    return [pid for pid, sid in table.items() if pid in found or sid in sessions]


def signal_all(pids: list, number: int) -> None:
    for pid in pids:
        try:
            posix.kill(pid, number)
        except OSError:
            pass  # gone, or not ours
