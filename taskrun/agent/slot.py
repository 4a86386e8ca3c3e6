"""A slot: room for one running task. A program of its own, started once per lease by GNU Parallel or the agent.

It imports only what is built into Python and takes one task at a time from the queue that all slots of the engine
share. Messages to and from the agent are marshalled tuples over a SOCK_SEQPACKET socket in the agent's private folder
(both ends are one interpreter of one user on one machine); their first item is one of the numbers below.

The deadline of a task's life lives here: a slot that hears nothing from its agent for `lost_after` seconds, or whose
socket closes, ends its task (TERM, 2 s, KILL).
"""

import _signal  # type: ignore[import-not-found]  # the built-in halves: `signal` and `socket` cost a start 10 ms
import _socket
import errno
import marshal
import posix
import select
import sys
import time

try:
    from . import ending, folder, orphans, process
except ImportError:  # as a program: the compiled files lie beside this one
    sys.path.insert(0, sys.argv[1].rpartition("/")[0])
    try:
        import ending  # type: ignore[import-not-found,no-redef]
        import folder  # type: ignore[import-not-found,no-redef]
        import orphans  # type: ignore[import-not-found,no-redef]
        import process  # type: ignore[import-not-found,no-redef]
    except (ImportError, OSError):  # the second: found, and gone before it was read
        sys.exit(0)  # it was started so late that the agent has gone, and its folder with it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# from a slot
HERE, TAKEN, RUNNING, RESULT, UNSTARTED, EMPTIED, ALIVE, BYE, REFUSED, LEFT = range(10)
# to a slot
CONFIG, BEAT, END, QUIT, ROLL, GO = range(6)

QUIET_MS = 5  # a task shorter than this costs one wake-up: its pipes are read after its end unless it takes longer
REFUSED_TOLD = 3  # of them, after which the agent is told, half a second
REFUSED_APART = 4
REFUSED_TRIES = 12  # forks refused in a row before the slot is set aside, about 10 s
ORPHAN_GRACE = 2.0  # seconds from TERM to KILL when the agent is lost
ALONE = 1.0  # seconds after which a slot that was told to stop by the system, and not by its agent, takes itself for the only one
REASON_MOST = 4096  # bytes of why a task could not start
MESSAGE_MAX = 1 << 17  # bytes of the longest message, from the queue or the agent

try:
    _clock_id = time.CLOCK_BOOTTIME  # counts suspend
    time.clock_gettime(_clock_id)

    def clock() -> float:
        return time.clock_gettime(_clock_id)

except (AttributeError, OSError):
    clock = time.monotonic


class AgentLost(Exception):
    """The agent's socket closed, or nothing was heard for too long."""


class Slot(object):
    def __init__(self, path: str, lease: str) -> None:
        self.wake, wake_write = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        self.told = 0
        for number in (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT, _signal.SIGUSR1):
            _signal.signal(number, self.on_told)
        _signal.signal(_signal.SIGCHLD, lambda _number, _frame: None)
        _signal.set_wakeup_fd(wake_write)
        self.agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        self.agent.connect(path)
        self.agent.send(marshal.dumps((HERE, posix.getpid(), lease)))
        self.orphans = orphans.Orphans(self)  # while the agent answers
        self.configure()
        self.current: "Any" = None  # (kind, id, n) of the task it holds
        self.end_how: "Any" = None
        self.end_agreed = False  # the agent has said so: if the system told this slot, it told more than this slot
        self.stopped = False  # an exit code of 0 may be the answer to a signal of ours
        self.quitting = False
        self.told_of = False  # the driver knows that it holds the current task
        self.pairs: dict = {}  # poll objects
        self.null = posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)
        self.spawn = process.spawn if hasattr(posix, "posix_spawn") else process.fork_spawn
        self.heard = clock()
        self.idle = select.poll()
        self.idle.register(self.agent, select.POLLIN)
        self.idle.register(self.queue, select.POLLIN)
        self.idle.register(self.wake, select.POLLIN)
        self.quiet = select.poll()
        self.quiet.register(self.agent, select.POLLIN)
        self.quiet.register(self.wake, select.POLLIN)

    def on_told(self, number: int, _frame: "Any") -> None:
        self.told = self.told or number

    def configure(self) -> None:
        """Everything about the run comes in one message, with descriptors: the queue, the environment, the lock."""
        data, ancillary, _, _ = self.agent.recvmsg(65536, _socket.CMSG_SPACE(3 * 4))
        if not data:
            raise AgentLost
        config = marshal.loads(data)[1]
        fds: list = []
        for level, kind, payload in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                fds.extend(int.from_bytes(payload[i : i + 4], sys.byteorder) for i in range(0, len(payload) - 3, 4))
        self.queue = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fds[0])
        for fd in fds:
            posix.set_inheritable(fd, False)
        self.held = fds[2:]  # never used: a resume waits until it is closed everywhere
        size = posix.fstat(fds[1]).st_size
        block = b""
        while len(block) < size:
            chunk = posix.pread(fds[1], size - len(block), len(block))
            if not chunk:
                break
            block += chunk
        posix.close(fds[1])
        self.env = dict(pair.split(b"=", 1) for pair in block.split(b"\0") if b"=" in pair)
        self.number = config["slot"]
        self.env[b"DISBATCH_CYLINDER_RANK"] = self.env[b"TASKRUN_CYLINDER_RANK"] = b"%d" % self.number
        self.share(config)
        self.run = config["run"].encode()
        self.folder = config["folder"]
        self.cwd = config["cwd"]
        self.lost_after = config["lost_after"]
        self.lease_end = time.monotonic() + config["lease"]
        self.grace = config["grace"]
        self.fail_fast = config["fail_fast"]
        self.stopped_ok = config["stopped_ok"]
        self.orphans.how = config["leftovers"]
        self.cwd_error: "Any" = None
        try:
            posix.chdir(self.cwd)
        except OSError as error:
            self.cwd_error = error

    def share(self, config: dict) -> None:
        """What of the node is this slot's: CPUs, and variables that say which GPUs. PERENGINE commands have all of it."""
        own = {name.encode("utf-8", "surrogateescape"): value.encode("utf-8", "surrogateescape") for name, value in config["env"].items()}
        self.whole = {name: self.env[name] for name in own if name in self.env}
        for name, value in config["outside"].items():
            self.whole[name.encode("utf-8", "surrogateescape")] = value.encode("utf-8", "surrogateescape")
        self.env.update(own)
        self.cpus = config["cpus"]
        if self.cpus:
            self.all_cpus = posix.sched_getaffinity(0)
            self.bind(self.cpus)

    def bind(self, cpus: "Any") -> None:
        """This process, and what it starts, runs on these alone."""
        try:
            posix.sched_setaffinity(0, cpus)
        except OSError:
            self.cpus = []  # they were taken away from this job meanwhile: where SLURM puts it

    # the agent's side

    def send(self, message: tuple) -> None:
        data = marshal.dumps(message)
        while True:
            try:
                self.agent.send(data, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
                return
            except BlockingIOError:
                # a stopped agent: wait for as long as it may live, never longer
                waiting = select.poll()
                waiting.register(self.agent, select.POLLOUT)
                if not waiting.poll(500) and clock() - self.heard > self.lost_after:
                    raise AgentLost from None
            except OSError:
                raise AgentLost from None

    def listen(self) -> None:
        """Take what the agent says. Raises AgentLost when its socket is closed."""
        while True:
            try:
                data = self.agent.recv(MESSAGE_MAX, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                raise AgentLost
            self.heard = clock()
            message = marshal.loads(data)
            what = message[0]
            if what == END:
                if self.current is not None and (message[1] is None or tuple(message[1]) == self.current):
                    self.end_agreed = True
                    if self.end_how is None:
                        self.end_how = (message[2], message[3])
                    else:  # told again: sooner, if anything
                        self.end_how = (self.end_how[0], min(self.end_how[1], message[3]))
            elif what == QUIT:
                self.quitting = True
            elif what == BEAT:
                self.send((ALIVE,))
            elif what == ROLL:
                self.send((HERE, posix.getpid(), self.current))
            elif what == GO:
                self.told_of = True

    def send_left(self, pids: list) -> None:
        """The current attempt has left these behind."""
        self.send((LEFT, tuple((pid, ending.begun(pid)) for pid in pids)))

    def hurry(self) -> "Any":
        """Listen to the agent while the leftovers of a task are ended. The seconds left for that, None for the whole grace."""
        try:
            self.listen()
            self.check_heard()
        except AgentLost:
            return ORPHAN_GRACE
        return None if self.end_how is None else self.end_how[1]

    def check_heard(self, report: "Any" = None) -> None:
        """Raise AgentLost when it was silent for too long. `report`: the last result, which the agent has not been told."""
        if clock() - self.heard > self.lost_after:
            if report is not None and report[3] == "engine-lost":  # it may go on: no slot was killed
                try:
                    self.agent.send(marshal.dumps((RESULT, report, None)), _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
                except OSError:
                    pass
            raise AgentLost

    # the life of a lease

    def serve(self) -> str:
        """Run tasks until the lease is over; why it ended."""
        report = None  # the last result, sent together with the next task's name
        while True:
            self.check_heard(report)
            if self.told or self.quitting or time.monotonic() >= self.lease_end:
                reason = "told" if self.told else "lease"
                if report is not None:
                    self.send((RESULT, report, None))
                return reason
            try:
                data = self.queue.recv(MESSAGE_MAX, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                if report is not None:
                    self.send((RESULT, report, None))
                    report = None
                self.wait_idle()
                continue
            if not data:
                raise AgentLost
            task = marshal.loads(data)
            self.current = task[:3]
            if report is not None:
                self.send((RESULT, report, self.current))
                report = None
            else:
                self.send((TAKEN, self.current))
            beside = task[6] is not None and self.cpus  # a PERENGINE command is not one slot's
            if beside:
                self.bind(self.all_cpus)
            report = self.attempt(task)
            if beside:
                self.bind(self.cpus)
            self.current = None
            self.end_how = None
            self.end_agreed = self.stopped = False
            if report is None:
                return "refused"
            if self.fail_fast and report[4]:
                self.send((EMPTIED, self.empty_queue()))

    def empty_queue(self) -> list:
        """A task failed and nothing new is to start: take every unstarted task out of the slots' reach."""
        keys: list = []
        while True:
            try:
                data = self.queue.recv(MESSAGE_MAX, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                return keys
            if not data:
                return keys
            keys.append(marshal.loads(data)[:3])

    def wait_idle(self) -> None:
        left = self.lease_end - time.monotonic()
        beat = self.lost_after - (clock() - self.heard)
        for fd, _ in self.idle.poll(max(0, min(left, beat, 3600.0)) * 1000 + 1):
            if fd == self.wake:
                posix.read(self.wake, 512)
                self.orphans.reap()
        self.listen()
        self.check_heard()

    # one attempt

    def attempt(self, task: tuple) -> "Any":
        """Run one task; its result row, or None when it was given back because no process could be made."""
        kind, number, n, line, repeat, command, rank = task[:7]
        if comes_back(task) and not self.is_told_of():
            return self.give_back(0)
        env = self.env
        text = b"%d" % number
        env[b"TASKRUN_ATTEMPT"] = mark = b"%s.%s%s.%d" % (self.run, b"" if kind == "task" else kind.encode(), text, n)
        env[b"DISBATCH_TASKID"] = env[b"TASKRUN_TASKID"] = text
        env[b"DISBATCH_STREAM_INDEX"] = env[b"TASKRUN_STREAM_INDEX"] = b"%d" % line
        env[b"DISBATCH_REPEAT_INDEX"] = env[b"TASKRUN_REPEAT_INDEX"] = b"%d" % repeat
        env[b"DISBATCH_TASKID_ZP"] = env[b"TASKRUN_TASKID_ZP"] = b"%06d" % number
        env[b"DISBATCH_STREAM_INDEX_ZP"] = env[b"TASKRUN_STREAM_INDEX_ZP"] = b"%06d" % line
        env[b"DISBATCH_REPEAT_INDEX_ZP"] = env[b"TASKRUN_REPEAT_INDEX_ZP"] = b"%06d" % repeat
        if rank is None:
            rank = self.number
        else:  # PERENGINE commands have no slot
            env = dict(env)
            env.update(self.whole)
            env[b"DISBATCH_CYLINDER_RANK"] = env[b"TASKRUN_CYLINDER_RANK"] = b"%d" % rank
        if len(task) > 7:
            env = dict(env)
            env[b"TASKRUN_FILE"] = task[7]
        keep = -1
        out_read = out_write = err_read = err_write = -1
        tries = 0
        while True:
            start = time.time()
            began = time.monotonic()
            try:
                if type(command) is tuple:  # too long for a queue message: (path,), a file of the agent's
                    command = process.read_command(command[0])
                if self.cwd_error is not None:
                    raise self.cwd_error
                if posix.stat(".").st_nlink == 0:
                    raise FileNotFoundError(errno.ENOENT, "the working directory is gone", self.cwd)
                arguments = [process.BASH, b"-c", command]
                if len(command) > process.ARG_MAX:
                    arguments[2] = b". /dev/fd/%d" % process.KEEP_FD
                    keep = process.as_file(b"exec %d<&-;" % process.KEEP_FD + command, self.folder)
                out_read, out_write = posix.pipe2(posix.O_CLOEXEC)
                err_read, err_write = posix.pipe2(posix.O_CLOEXEC)
                pid = self.spawn(arguments, env, self.null, out_write, err_write, keep)
                break
            except NotImplementedError:
                self.spawn = process.fork_spawn
                for fd in (out_read, out_write, err_read, err_write):
                    posix.close(fd)
            except (OSError, ValueError) as error:
                for fd in (out_read, out_write, err_read, err_write, keep):
                    if fd >= 0:
                        posix.close(fd)
                out_read = out_write = err_read = err_write = keep = -1
                code = getattr(error, "errno", None) or 200
                if code not in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
                    reason = ("could not start: %s" % (error,)).encode("utf-8", "surrogateescape")[:REASON_MOST]
                    end = time.time()
                    return (
                        kind, number, n, "start", code, -1, rank, start, end, time.monotonic() - began,
                        0.0, 0.0, 0, 0, b"", len(reason), reason, False,
                    )  # fmt: skip
                tries += 1
                if tries == REFUSED_TOLD:
                    self.send((REFUSED, code))
                if tries > REFUSED_TRIES + self.number % REFUSED_APART:  # the end of one slot may make room for the next
                    return self.give_back(code)
                self.pause(min(1.0, 0.1 * tries))
                if self.told or self.quitting or self.end_how:
                    return self.give_back(0)
        posix.close(out_write)
        posix.close(err_write)
        if keep >= 0:
            posix.close(keep)
        out = process.Output(out_read)
        err = process.Output(err_read)
        status, usage = self.wait(pid, out, err, mark)
        elapsed = time.monotonic() - began
        end = time.time()
        # one look tells whether a short task left anything in its pipes
        left = [fd for fd, event in self.pair(out_read, err_read).poll(0) if event & select.POLLIN]
        out_bytes, out_snippet = out.close(out_read in left)
        err_bytes, err_snippet = err.close(err_read in left)
        if posix.WIFSIGNALED(status):
            code = -posix.WTERMSIG(status)
            cause = "signal"
        else:
            code = posix.WEXITSTATUS(status)
            cause = "exit" if code else "ok"
        if self.end_how is not None and (code or (kind != "stop" and self.is_cut_short())):
            cause = self.end_how[0]
        left_behind = False
        if self.orphans.any(kind, pid, mark):
            left_behind, said = self.orphans.settle(kind, pid, mark, self.end_how is None)
            if said and self.orphans.how == "fail" and not code:
                cause, code, err_bytes, err_snippet = orphans.CAUSE, orphans.CODE, len(said), said
        tail = process.error_tail(out, err) if cause in ("exit", "signal") else b""
        return (
            kind, number, n, cause, code, pid, rank, start, end, elapsed,
            usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024,
            out_bytes, out_snippet, err_bytes, err_snippet, left_behind, *([tail] if tail else []),
        )  # fmt: skip

    def is_cut_short(self) -> bool:
        """An attempt that was told to end has ended with 0: whether it has stopped, and not finished.

        The system tells a task before its slot, or after it, and a look at the task comes too late then: Python and Perl take their
        handlers out before they end.
        """
        return not self.stopped_ok and bool(self.told or self.stopped)

    def is_told_of(self) -> bool:
        """A task whose engine was lost may be what it was lost by: this time the driver hears of it before it starts."""
        while not (self.told_of or self.told or self.quitting or self.end_how):
            self.pause(self.lost_after)
        told_of, self.told_of = self.told_of, False
        return told_of

    def give_back(self, code: int) -> None:
        """The task has not started. `code`: the error by which no process can be had, or 0."""
        self.send((UNSTARTED, self.current, code))
        self.quitting = self.quitting or not code

    def pair(self, out_fd: int, err_fd: int) -> "Any":
        """A poll object for these two; their numbers are nearly always the same."""
        found = self.pairs.get((out_fd, err_fd))
        if found is None:
            found = self.pairs[out_fd, err_fd] = select.poll()
            found.register(out_fd, select.POLLIN)
            found.register(err_fd, select.POLLIN)
        return found

    def pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not (self.told or self.quitting or self.end_how or self.told_of):
            left = until - time.monotonic()
            if left <= 0:
                return
            for fd, _ in self.quiet.poll(left * 1000 + 1):
                if fd == self.wake:
                    posix.read(self.wake, 512)
            self.listen()
            self.check_heard()

    def wait(self, pid: int, out: "Any", err: "Any", mark: bytes) -> tuple:
        """Wait for bash to end, emptying its pipes, listening to the agent, and ending it when it must."""
        poll = self.quiet
        timeout: float = QUIET_MS
        looking = False
        kill_at: "Any" = None
        tell_at: "Any" = None
        again_at = 0.0
        while True:
            for fd, _ in poll.poll(timeout):
                if fd == self.wake:
                    posix.read(self.wake, 512)
                elif fd == out.fd:
                    if out.drain():
                        poll.unregister(fd)
                elif fd == err.fd and err.drain():
                    poll.unregister(fd)
            done, status, usage = self.orphans.wait(pid)
            if done:
                if self.told and self.end_how is None:
                    self.end_how = ("preempted", self.grace)
                    kill_at = clock() + self.grace
                if kill_at is not None:
                    self.end_rest(pid, mark, kill_at)
                return status, usage
            now = clock()
            try:
                if not looking:
                    looking = True
                    poll = select.poll()
                    poll.register(self.agent, select.POLLIN)
                    poll.register(self.wake, select.POLLIN)
                    for output in (out, err):
                        output.unblock()
                        poll.register(output.fd, select.POLLIN)
                    self.send((RUNNING, self.current, pid))
                self.listen()
                self.check_heard()
            except AgentLost:
                if kill_at is None:
                    self.end_how = ("engine-lost", ORPHAN_GRACE)
                    try:
                        poll.unregister(self.agent.fileno())
                    except (KeyError, OSError):
                        pass
            if self.told and self.end_how is None:
                self.end_how = ("preempted", self.grace)
            if self.end_how is not None:
                if kill_at is None:
                    kill_at = now + self.end_how[1]
                    again_at = now
                    tell_at = now + self.patience(pid, mark)
                kill_at = min(kill_at, now + self.end_how[1])
                if tell_at is not None and now >= tell_at:
                    self.tell(pid, mark)
                    tell_at = None
                elif self.end_agreed and self.told == ending.TERM:
                    tell_at = None
                if now >= kill_at and now >= again_at:
                    ending.signal_all(self.orphans.processes(mark, pid), ending.KILL)
                    again_at = now + 0.2
                until = max(kill_at, again_at)
                timeout = max(1.0, ((until if tell_at is None else min(until, tell_at)) - now) * 1000)
            else:
                timeout = max(1.0, (self.lost_after - (now - self.heard)) * 1000)

    def patience(self, pid: int, mark: bytes) -> float:
        """Seconds until TERM is sent. None, unless the system has told this slot to stop, and with it a task that listens.

        A second signal would interrupt what the task does about the first: a `cp` in a trap would be ended.
        """
        if not self.told or "caught" not in [ending.disposition(each, self.told) for each in self.orphans.processes(mark, pid)]:
            return 0.0
        grace: float = self.end_how[1]
        return ALONE if self.told == ending.TERM else grace / 2

    def tell(self, pid: int, mark: bytes) -> None:
        """TERM to all of the attempt. What it may make of that is looked at just before, and again for handlers set meanwhile."""
        pids = self.orphans.processes(mark, pid)
        self.stopped = ending.answers(pids, pid, ending.TERM)
        ending.signal_all(pids, ending.TERM)
        self.stopped = self.stopped or ending.answers(pids, pid, ending.TERM)

    def end_rest(self, pid: int, mark: bytes, kill_at: float) -> None:
        """Bash has ended because we said so: what it started must be gone, too, before this is reported."""
        while True:
            rest = self.orphans.rest(mark, pid)
            if not rest:
                return
            if clock() >= kill_at:
                ending.signal_all(rest, ending.KILL)
            time.sleep(0.02)


def comes_back(key: tuple) -> bool:
    """An earlier attempt of this task (its key, or all of it) was lost or given up."""
    return bool(key[0] == "task" and key[2] > 1)


def main(arguments: list) -> int:
    """`slot.pyc SOCKET LEASE`"""
    private = arguments[1].rpartition("/")[0]
    posix.closerange(3, 256)
    try:
        slot = Slot(arguments[1], arguments[2])
    except (AgentLost, OSError):  # the agent has gone, or needs no more slots
        if folder.is_gone(arguments[1]):
            folder.remove(private)
        return 0
    try:
        reason = slot.serve()
        slot.send((BYE, reason))
    except AgentLost:
        slot.agent.close()
        folder.remove(private)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
