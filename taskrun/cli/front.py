"""The front of a run on a terminal: what the shell stops with Ctrl-Z, so that it can prompt, while the driver behind it goes on.

A process that is stopped sends no heartbeats, and a shell prompts only when its child is stopped. So there are two: the front, which is the
shell's job and passes signals on, and the driver, in a process group of its own. Each sees the other's end by a pipe or as its child's.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Sequence

from taskrun import job

SAY_SECONDS = 1.0  # for the driver to say what happens before the front stops
PASSED_ON = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT,
    signal.SIGTSTP,
)  # fmt: skip
_BACKGROUND = (signal.SIGTTOU, signal.SIGTTIN)  # stop who uses the terminal from the background
_STANDARD_INPUT = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")


def split(arguments: Sequence[str]) -> int | None:
    """Go on as the driver (None), or stand for it until it has ended (its exit code)."""
    if not _has_terminal() or _reads_terminal(arguments) or signal.getsignal(signal.SIGTSTP) != signal.SIG_DFL:
        return None
    signals = {number for number in PASSED_ON if signal.getsignal(number) != signal.SIG_IGN}  # nohup: ignored by both
    signals.add(signal.SIGCHLD)
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    front = os.getpid(), os.getpgrp()
    life_read, life_write = os.pipe()
    said_read, said_write = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    child = os.fork()
    if child:
        with contextlib.suppress(OSError):  # it has done so itself, or has ended
            os.setpgid(child, child)
        os.close(life_read)
        os.close(said_write)
        return _Front(child, said_read, signals).stand()
    os.setpgid(0, 0)
    os.close(life_write)
    os.close(said_read)
    os.set_blocking(said_write, False)
    job.front = job.Front(*front, life_read, said_write)
    for number in _BACKGROUND:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return None


def _has_terminal() -> bool:
    """A terminal controls this session: a shell gives it to us, now or (`taskrun … &`, then `fg`) later."""
    for fd in (2, 0):
        with contextlib.suppress(OSError):  # it is no terminal, or not the one that controls this session
            return os.tcgetpgrp(fd) > 0
    return False


def _reads_terminal(arguments: Sequence[str]) -> bool:
    """Tasks are typed in, which only a process in the foreground can read."""
    if any(word.startswith(("/dev/tty", "/dev/pts")) for word in arguments):
        return True
    return os.isatty(0) and any(word in _STANDARD_INPUT for word in arguments)


class _Front:
    """The parent. Has no thread and no handler: signals wait until it asks for them."""

    def __init__(self, child: int, said_fd: int, signals: set[signal.Signals]) -> None:
        self.child = child
        self.said_fd = said_fd
        self.signals = signals
        self.hung_up = False

    def stand(self) -> int:
        """Pass signals on until the driver has ended; return its exit code. Ends by the signal that ended the driver."""
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):  # who writes to the driver, or reads from it, is to see its end, not ours
            os.dup2(nothing, fd)
        os.close(nothing)
        while True:
            number = signal.sigwait(self.signals)
            if number == signal.SIGCHLD:
                pid, status = os.waitpid(self.child, os.WNOHANG)
                if pid:
                    return self._ended(status)
            elif number == signal.SIGTSTP:
                self._suspend()
            elif number != signal.SIGHUP or not self.hung_up:  # the shell says it, and the terminal
                self.hung_up = self.hung_up or number == signal.SIGHUP
                os.kill(self.child, number)

    def _suspend(self) -> None:
        """Stop when the driver has said what happens. Where nobody could continue us the system does not stop us."""
        while select.select([self.said_fd], [], [], 0)[0] and os.read(self.said_fd, 512):
            pass  # said too late the last time
        os.kill(self.child, signal.SIGTSTP)
        if select.select([self.said_fd], [], [], SAY_SECONDS)[0] and not os.read(self.said_fd, 512):
            return  # it has ended
        if signal.SIGCONT not in signal.sigpending():  # else the job, others of which had stopped before, was continued meanwhile
            os.kill(os.getpid(), signal.SIGTSTP)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTSTP])  # here we stop
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTSTP])
        os.kill(os.getpid(), signal.SIGCONT)  # has its turn after what else came: nothing starts again that is to end

    @staticmethod
    def _ended(status: int) -> int:
        if not os.WIFSIGNALED(status):
            return os.waitstatus_to_exitcode(status)
        import resource

        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the driver's own is there
        with contextlib.suppress(OSError):  # KILL has no handler
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        return 128 + number
