"""The engine's unstarted tasks: one SOCK_SEQPACKET pair that all its slots read, and what does not fit in it yet.

A free slot's `recv` takes exactly one whole task, whichever slot is free first, without a round trip through the agent.
The agent keeps the slots' end, too, so that it can take unstarted tasks back.
"""

import collections
import marshal
import os
import socket

MESSAGE_MAX = 60000  # bytes; a longer command goes into a file of the agent's


class TaskQueue(object):
    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.ours, self.slots_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.setblocking(False)
        self.slots_end.setblocking(False)
        self.backlog: "collections.deque" = collections.deque()
        self.queued: dict = {}  # key -> task, in the socket as far as we know
        self.files: dict = {}  # path -> descriptor of a command that is kept in memory
        self.stopped = False  # a task failed in a run that stops then: nothing is handed out any more

    def __len__(self) -> int:
        return len(self.backlog) + len(self.queued)

    def add(self, task: tuple) -> None:
        self.backlog.append(task)

    def feed(self) -> None:
        """Move as much of the backlog into the socket as it takes."""
        backlog = self.backlog
        while backlog and not self.stopped:
            task = backlog[0]
            if type(task[5]) is bytes and len(task[5]) > MESSAGE_MAX:
                task = backlog[0] = (*task[:5], (self.store(task),), *task[6:])
            try:
                self.ours.send(marshal.dumps(task))
            except BlockingIOError:
                return
            backlog.popleft()
            self.queued[task[:3]] = task

    def store(self, task: tuple) -> str:
        path = os.path.join(self.folder, "command-%s-%d-%d" % task[:3])
        try:
            with open(path, "wb") as file:  # in a folder of our own
                file.write(task[5])
        except OSError:  # the disk is full
            self.unlink(path)
            path = self.keep(task[5]) or path
        return path

    def keep(self, command: bytes) -> str:
        """A path for what is kept in memory, '' where that cannot be done: then the task cannot start, and says why."""
        try:
            fd = os.memfd_create("command")  # Python 3.8
        except (AttributeError, OSError):
            return ""
        path = "/proc/%d/fd/%d" % (os.getpid(), fd)
        self.files[path] = fd
        try:
            while command:
                command = command[os.write(fd, command) :]
        except OSError:
            self.unlink(path)
            return ""
        return path

    def unlink(self, path: str) -> None:
        if path in self.files:
            os.close(self.files.pop(path))
            return
        try:
            os.unlink(path)
        except OSError:
            pass

    def forget(self, task: tuple) -> None:
        """This attempt has ended: its command's file, if it had one, is not needed any more."""
        if type(task[5]) is tuple:
            self.unlink(task[5][0])

    def taken(self, key: tuple) -> tuple:
        """A slot says that it took this task."""
        task: tuple = self.queued.pop(key)
        return task

    def emptied(self, keys: list) -> None:
        """A slot took these out without starting them, since its task failed and the run is to stop then."""
        self.stopped = True
        self.backlog.extendleft(self.queued.pop(key) for key in reversed(keys))

    def drain(self) -> None:
        """Take back what no slot has taken; it goes to the front of the backlog, in its order."""
        back = []
        while True:
            try:
                data = self.slots_end.recv(1 << 20)
            except BlockingIOError:
                break
            if not data:
                break
            key = marshal.loads(data)[:3]
            task = self.queued.pop(key, None)
            if task is not None:
                back.append(task)
        self.backlog.extendleft(reversed(back))

    def recall(self, count: int) -> list:
        """Up to `count` unstarted tasks, the last first."""
        if len(self.backlog) < count:
            self.drain()
        tasks: list = []
        while self.backlog and len(tasks) < count:
            tasks.append(self.backlog.pop())
        return tasks
