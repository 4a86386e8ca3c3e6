"""A task's process: bash in a session of its own, and the two pipes it prints to."""

import _signal  # type: ignore[import-not-found]  # `signal` without its enums, which cost a slot's start 5 ms
import errno
import posix

BASH = b"/bin/bash"
ARG_MAX = 131071  # bytes of one argument (Linux: MAX_ARG_STRLEN less its NUL)
KEEP_FD = 9  # where a task finds the file with a command too long for an argument
SNIPPET = 40  # bytes kept of each end of an output
TAIL = 1024  # bytes of the end of an error text, for the screen: as in model.py
#: Every signal with a disposition: some are handled or ignored by Python, and GNU Parallel ignores SIGALRM for its jobs.
_DEFAULTS = [number for number in getattr(_signal, "valid_signals", lambda: range(1, 32))() if number not in (9, 19)]


class Output(object):
    """One of a task's two pipes: counted, the first 40 and the last 1024 bytes kept, nothing more in memory."""

    __slots__ = ("blocking", "count", "fd", "head", "tail")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.blocking = True
        self.count = 0
        self.head = b""
        self.tail = b""

    def take(self, data: bytes) -> None:
        self.count += len(data)
        room = SNIPPET - len(self.head)
        if room:
            self.head += data[:room]
            data = data[room:]
        if data:
            self.tail = (self.tail + data[-TAIL:])[-TAIL:]

    def unblock(self) -> None:
        """Reading waits no more (a flag of our end alone: the task's is as it expects)."""
        if self.blocking:
            self.blocking = False
            posix.set_blocking(self.fd, False)

    def drain(self) -> bool:
        """Read what is there; True at the end of the pipe."""
        while True:
            try:
                data = posix.read(self.fd, 65536)
            except BlockingIOError:
                return False
            if not data:
                return True
            self.take(data)
            if len(data) < 4096:
                return False

    def close(self, left: bool) -> tuple:
        """(bytes, snippet); when something is `left` in the pipe it is read first, for as long as it is what the task left."""
        if left:
            self.unblock()
            self.empty()
        posix.close(self.fd)
        return self.count, self.head + (b"..." + self.tail[-SNIPPET:] if self.tail else b"")

    def empty(self) -> None:
        limit = self.count + (1 << 22)  # a background child may print for ever: stop after a few pipe sizes
        while self.count < limit:
            try:
                data = posix.read(self.fd, 65536)
            except BlockingIOError:
                break
            if not data:
                break
            self.take(data)


def error_tail(out: Output, err: Output) -> bytes:
    """The end of stderr, or of stdout where that is blank; nothing if a snippet holds all of it."""
    said = err if (err.head + err.tail).strip() else out
    return (said.head + said.tail)[-TAIL:] if said.tail else b""


def spawn(arguments: list, env: dict, null: int, out: int, err: int, keep: int) -> int:
    """Start bash in a session of its own, stdin from `null`; pid. `keep` is a descriptor it may inherit, or -1."""
    actions = [
        (posix.POSIX_SPAWN_DUP2, null, 0),
        (posix.POSIX_SPAWN_DUP2, out, 1),
        (posix.POSIX_SPAWN_DUP2, err, 2),
    ]
    if keep >= 0:
        actions.append((posix.POSIX_SPAWN_DUP2, keep, KEEP_FD))
    return posix.posix_spawn(BASH, arguments, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_DEFAULTS)


def fork_spawn(arguments: list, env: dict, null: int, out: int, err: int, keep: int) -> int:
    """The same where Python or its C library has no posix_spawn with sessions."""
    status_read, status_write = posix.pipe2(posix.O_CLOEXEC)
    try:
        pid = posix.fork()
        if pid == 0:
            try:
                posix.setsid()
                for number in _DEFAULTS:
                    _signal.signal(number, _signal.SIG_DFL)
                posix.dup2(null, 0)
                posix.dup2(out, 1)
                posix.dup2(err, 2)
                if keep == KEEP_FD:  # to itself it would stay as it is: closed by exec
                    posix.set_inheritable(keep, True)
                elif keep >= 0:
                    if status_write == KEEP_FD:
                        status_write = posix.dup(status_write)
                        posix.set_inheritable(status_write, False)
                    posix.dup2(keep, KEEP_FD)
                posix.execve(BASH, arguments, env)
            except OSError as error:
                posix.write(status_write, b"%d" % (error.errno or 0))
            finally:
                posix._exit(127)
        posix.close(status_write)
        status_write = -1
        said = posix.read(status_read, 16)
        if said:
            posix.waitpid(pid, 0)
            raise OSError(int(said), posix.strerror(int(said)))
        return pid
    finally:
        posix.close(status_read)
        if status_write >= 0:
            posix.close(status_write)


def read_command(path: str) -> bytes:
    """A command that was too long for a message, from a file of the agent's. Raises OSError."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        size = posix.fstat(fd).st_size
        data = b""
        while len(data) < size:
            chunk = posix.read(fd, size - len(data))
            if not chunk:
                raise OSError(errno.EIO, "its command cannot be read", path)
            data += chunk
        return data
    finally:
        posix.close(fd)


def as_file(text: bytes, folder: str) -> int:
    """A descriptor on an unnamed file with this text, at its beginning; in `folder` where there is no memory for it (Python 3.7)."""
    if hasattr(posix, "memfd_create"):
        fd = posix.memfd_create("task", posix.MFD_CLOEXEC)
    else:
        path = "%s/long-%d" % (folder, posix.getpid())
        fd = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600)
        posix.unlink(path)
    view = memoryview(text)
    while view:
        view = view[posix.write(fd, view) :]
    posix.lseek(fd, 0, 0)
    return fd
