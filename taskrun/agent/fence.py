"""The names by which processes of a run say that they live on this host, and whether one of the run's own still does.

Such a name is a Unix socket in the abstract name space: bound, listening, and never accepted from. It is handed on to every process that
must be gone before a resume, and the kernel frees it with the last of them. No file is left behind, and nobody can remove it.

Anybody on the host may bind such a name. So the user id of the process that listens decides (SO_PEERCRED), not the name: `Watch`.
"""

import errno
import os
import socket
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, FrozenSet, List, Optional, Set, Tuple

BESIDE = b"+"  # between a run's name and the rest, of who attaches to the run on its driver's host
AGENT = b"."  # of an agent that is reached from elsewhere
EXISTS = sys.platform.startswith("linux")  # whether this system has such names at all

_LIST = "/proc/net/unix"
_LONGEST = 90  # an abstract name has room for 107 bytes
_BACKLOG = 4096  # looks at one name in the life of a run; the system may allow less
_TRIES = 64
_READS = 3  # of the list: a socket may be left out of one that changes while it is read
_INITIAL_PIDS = 0xEFFFFFFC  # inode of the process namespace that sees all processes (linux/proc_ns.h)
_CERTAIN, _POSSIBLE, _FOREIGN, _FREE = "certain", "possible", "foreign", "free"


def name_of(run: bytes) -> bytes:
    """The name of the run itself, without the zero byte before it."""
    if len(run) > _LONGEST:
        import hashlib

        run = hashlib.sha256(run).hexdigest().encode("ascii")
    return b"taskrun-" + run


def bind(name: bytes) -> "Optional[socket.socket]":
    """Hold the name from now on; None if it is taken. Raises OSError."""
    held = _bound(name)
    if held is not None:
        try:
            held.listen(_BACKLOG)
        except OSError:
            held.close()
            raise
    return held


def bind_beside(run: bytes, kind: bytes) -> "Optional[socket.socket]":
    """Hold another name of the run, which nobody can guess and take before; None if all are taken. Raises OSError.

    Where the system does not list its sockets the name has a number, so that it can be found by trying.
    """
    listed = os.access(_LIST, os.R_OK)
    for number in range(1, _TRIES + 1):
        held = bind(name_of(run) + kind + (os.urandom(4).hex().encode("ascii") if listed else b"%d" % number))
        if held is not None:
            return held
    return None


class Watch(object):
    """Looks at the names of one run, again and again, until `close`.

    `kind`: of the names beside that of the run itself. `users`: user ids that processes of the run have. `anybody`: they may have others,
    too, which are not known.
    """

    def __init__(self, run: bytes, kind: bytes, users: "FrozenSet[int]", anybody: bool) -> None:
        self.own = name_of(run)
        self.kind = kind
        self.users = users
        self.anybody = anybody
        self.held: "Dict[Tuple[bytes, int], Tuple[socket.socket, str]]" = {}
        self.foreign: "Set[Tuple[bytes, int]]" = set()  # names that only look like the run's
        self._processes: "Optional[_Processes]" = None

    def look(self) -> "Tuple[List[bytes], List[bytes]]":
        """(names that a process of `users` holds, those of which it is not known whether a process of the run holds them)."""
        self._processes = None
        taken = self._taken() if EXISTS else set()
        for key in set(self.held) - taken:
            self.held.pop(key)[0].close()
        self.foreign &= taken
        found: "Dict[str, List[bytes]]" = {_CERTAIN: [], _POSSIBLE: []}
        for key in sorted(taken - self.foreign):
            verdict = self._verdict(key)
            if verdict == _FOREIGN:
                self.foreign.add(key)
            elif verdict != _FREE:
                found[verdict].append(key[0])
        return found[_CERTAIN], found[_POSSIBLE]

    def close(self) -> None:
        while self.held:
            self.held.popitem()[1][0].close()

    def _taken(self) -> "Set[Tuple[bytes, int]]":
        """Names of the run that are bound, each with the inode of its socket; 0 where that is not known: it may be free."""
        found: "Set[Tuple[bytes, int]]" = set()
        try:
            for _ in range(_READS):
                found |= self._listed()
        except OSError:
            found = {(self.own + self.kind + b"%d" % number, 0) for number in range(1, _TRIES + 1)}
        if not any(name == self.own for name, _ in found):
            found.add((self.own, 0))  # it can be tried, whatever a list leaves out
        return found

    def _listed(self) -> "Set[Tuple[bytes, int]]":
        with open(_LIST, "rb") as file:
            lines = file.read().split(b"\n")
        found = set()
        beside = self.own + self.kind
        for line in lines:
            head, at, name = line.partition(b" @")
            if at and (name == self.own or name.startswith(beside)):
                words = head.split()
                if len(words) == 7 and words[6].isdigit() and int(words[6]):  # 0: a connection that waits to be accepted
                    found.add((name, int(words[6])))
        return found

    def _verdict(self, key: "Tuple[bytes, int]") -> str:
        if key in self.held:
            connection, verdict = self.held[key]
            try:
                if connection.recv(4096):
                    return verdict
            except BlockingIOError:
                return verdict
            except OSError:
                pass
            connection.close()  # the last holder has gone: whoever has the name now is another one
            del self.held[key]
        return self._asked(key)

    def _asked(self, key: "Tuple[bytes, int]") -> str:
        """By a connection to it, which is kept: one that is closed stays in the queue of the name, where nobody accepts it."""
        name, inode = key
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError:
            return _POSSIBLE
        try:
            connection.setblocking(False)
            connection.connect(b"\0" + name)
            uid = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        except OSError as error:
            connection.close()
            return self._sought(name, inode, error.errno)
        verdict = self._of_user(uid in self.users)
        if verdict == _FOREIGN:
            connection.close()
        else:
            self.held[key] = connection, verdict
        return verdict

    def _of_user(self, known: bool) -> str:
        return _CERTAIN if known else _POSSIBLE if self.anybody else _FOREIGN

    def _sought(self, name: bytes, inode: int, why: "Optional[int]") -> str:
        """By its inode among open files: it does not listen (an older version's, or not yet), or strangers have filled its queue."""
        if why == errno.ECONNREFUSED:
            try:
                probe = _bound(name)
            except OSError:
                probe = None
            if probe is not None:
                probe.close()
                return _FREE
        if not inode:
            return _POSSIBLE
        if self._processes is None:
            self._processes = _Processes(self.users)
        if inode in self._processes.ours:
            return _CERTAIN
        if inode in self._processes.others or self._processes.complete:
            return self._of_user(known=False)
        return _POSSIBLE


class _Processes(object):
    """Inodes of the sockets that processes have open: `ours` those of `users`. `complete`: no process of `users` was hidden."""

    def __init__(self, users: "FrozenSet[int]") -> None:
        self.ours: "Set[int]" = set()
        self.others: "Set[int]" = set()
        self.complete = users <= {os.getuid()} or not os.getuid()
        try:
            self.complete = self.complete and os.stat("/proc/self/ns/pid").st_ino == _INITIAL_PIDS
            for _ in range(2):  # a socket may go from a process that is not yet looked at to one that was
                for pid in filter(str.isdigit, os.listdir("/proc")):
                    self._look("/proc/" + pid, users)
        except OSError:
            self.complete = False

    def _look(self, process: str, users: "FrozenSet[int]") -> None:
        ours = False
        try:
            ours = os.stat(process).st_uid in users
            for fd in os.listdir(process + "/fd"):
                try:
                    target = os.readlink(process + "/fd/" + fd)
                except FileNotFoundError:
                    continue
                if target.startswith("socket:["):
                    (self.ours if ours else self.others).add(int(target[8:-1]))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended
        except OSError:
            self.complete = self.complete and not ours


def _bound(name: bytes) -> "Optional[socket.socket]":
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.bind(b"\0" + name)
    except OSError as error:
        one.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return one
