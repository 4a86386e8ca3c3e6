"""The slots of an engine as its agent sees them: who is connected, what each holds, and what a dead one took with it."""

import errno
import marshal
import os
import select
import socket
import struct

from . import ending, process, slot
from .doubts import Doubts
from .losses import Losses
from .queue import TaskQueue
from .remains import Remains

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Set, Tuple

    from .share import Shares

LEASE = 15.0  # seconds a slot runs lines before GNU Parallel is asked again
SPARE = 4  # descriptors kept for what the agent opens beside its slots
UNANSWERED = 8  # beats in a row, which come eight times in the silence that a slot itself survives
CREDENTIALS = struct.Struct("iII")


class Peer(object):
    """A connected slot."""

    def __init__(self, connection: "socket.socket") -> None:
        self.socket = connection
        self.fd = connection.fileno()
        self.pid = 0  # once it has said that it is there
        self.sender = 0  # the process that connected, as the kernel knows it
        self.number = -1
        self.task: "Optional[Tuple[Any, ...]]" = None  # the one it holds
        self.session = 0  # of that task, once it said so
        self.goodbye = ""
        self.unanswered = 0  # beats in a row

    def tell(self, *message: "Any") -> None:
        try:
            self.socket.send(marshal.dumps(message))
        except OSError:
            pass  # its end is noticed where its socket is read


class Slots(object):
    """Accepts slots, hands each what it needs, reads what they say. `results` and `running` are emptied by the agent."""

    def __init__(
        self, poll: "Any", folder: str, config: "Dict[str, Any]", shares: "Shares", env_fd: int, held: "List[int]", losses: "Losses"
    ) -> None:
        self.poll = poll
        self.config = config
        self.shares = shares
        self.folder = folder
        self.fds = [env_fd, *held]
        self.losses = losses
        self.count = config["slots"]  # less those set aside
        self.numbers = list(range(self.count))
        self.queue = TaskQueue(folder)
        self.peers: "Dict[int, Peer]" = {}
        self.results: "List[Tuple[Any, ...]]" = []
        self.running: "List[Tuple[Any, ...]]" = []
        self.announced: "List[Peer]" = []  # that wait until the driver has been told what they hold
        self.connected: "List[str]" = []  # leases whose slot has come
        self.refused: "List[str]" = []  # why slots were set aside
        self.delayed = 0  # the error for which a slot cannot start its task for now
        self.closing = False
        self.missing: "Set[Tuple[Any, ...]]" = set()  # roll call: tasks that nobody has said to hold
        self.asked: "Dict[int, int]" = {}  # and the answers still to come of each slot: with the last one, all it took is told
        self.doubts = Doubts(config, losses)
        self.remains = Remains(losses.mark)
        self.path = os.path.join(folder, "s")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(self.path)
        self.listener.listen(128)
        self.spare = [os.dup(0) for _ in range(SPARE)]  # descriptors, until they are needed
        self.turns_away = False
        self.turned_away = 0  # slots that found no room and end
        self.listener.setblocking(False)

    def held(self) -> int:
        return sum(1 for peer in self.peers.values() if peer.task is not None)

    def alive(self) -> int:
        return sum(1 for peer in self.peers.values() if not peer.goodbye)

    def wanted(self) -> int:
        """How many leases there should be beside those that live."""
        count: int = min(self.count, len(self.queue) + self.held()) - self.alive()
        return count

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM) and self.spare:
                    self.make_room("raise `ulimit -n`" if error.errno == errno.EMFILE else error.strerror or str(error))
                    continue
                return
            if self.turns_away and self.alive() >= self.count:
                connection.close()
                self.turned_away += 1
                continue
            pid, uid, _ = CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
            if uid != os.getuid() or self.closing:
                connection.close()
                continue
            connection.setblocking(False)
            peer = Peer(connection)
            peer.sender = pid
            self.peers[peer.fd] = peer
            self.poll.register(peer.fd, select.POLLIN)

    def make_room(self, why: str) -> None:
        """No descriptor is left for a slot: let go of the spare ones, and turn away all slots beyond those that are connected."""
        while self.spare:
            os.close(self.spare.pop())
        self.turns_away = True
        self.count = self.alive()
        self.refused.append("no descriptor is left for more slots (%s)" % why)

    def read(self, fd: int) -> None:
        peer = self.peers.get(fd)
        while peer is not None and peer.fd in self.peers:
            try:
                data = peer.socket.recv(slot.MESSAGE_MAX)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # said once, when it left with something of ours unread; what it had sent comes after it
            except OSError:
                data = b""
            if not data:
                self.gone(peer)
                return
            try:
                self.message(peer, marshal.loads(data))
            except (EOFError, IndexError, KeyError, MemoryError, OverflowError, TypeError, ValueError):
                self.nonsense(peer)

    def nonsense(self, peer: "Peer") -> None:
        """It is no slot of ours, or not in its right mind: ended, and what it held is lost with it."""
        ending.signal_all([peer.sender], ending.KILL)
        peer.goodbye = ""
        if peer.fd in self.peers:
            self.gone(peer)

    def message(self, peer: "Peer", message: "Tuple[Any, ...]") -> None:
        """Raises an error (see `read`) when it cannot be true; then nothing but what was true has been believed."""
        what = message[0]
        if peer.goodbye or (not peer.pid and what != slot.HERE):
            raise ValueError("it is not there")
        peer.unanswered = 0
        if what == slot.RESULT:
            self.result(peer, message[1])
            if message[2] is not None:
                self.holds(peer, message[2])
        elif what == slot.TAKEN:
            self.holds(peer, message[1])
        elif what == slot.RUNNING:
            if peer.task is None or type(message[2]) is not int or message[2] < 2:
                raise ValueError("it holds no task")
            peer.session = message[2]
            self.running.append(peer.task)
        elif what == slot.UNSTARTED:
            task, peer.task = peer.task, None
            if task is None:
                raise ValueError("it holds no task")
            self.queue.backlog.appendleft(task)
            if message[2]:
                self.count -= 1
                peer.number = -1
                if not self.held():  # nothing of ours ends and makes room: the others would fare no better
                    self.count = 0
                self.refused.append("no process can be started (%s)" % os.strerror(message[2]))
        elif what == slot.REFUSED:
            if peer.task is None or type(message[1]) is not int:
                raise ValueError("it starts no task")
            self.delayed = message[1]
        elif what == slot.LEFT:
            if peer.task is None:
                raise ValueError("it has run no task")
            self.remains.add(peer.task[:3], message[1])
        elif what == slot.EMPTIED:
            self.queue.emptied([tuple(key) for key in message[1]])
        elif what == slot.BYE:
            if peer.task is not None or not message[1]:
                raise ValueError("it cannot go with a task")
            peer.goodbye = message[1]
        elif what == slot.HERE:
            if peer.pid:
                self.answered(peer)
            else:
                self.welcome(peer, message)
        elif what != slot.ALIVE:
            raise ValueError("it says what no slot says")

    def welcome(self, peer: "Peer", message: "Tuple[Any, ...]") -> None:
        """A new slot: give it a number, the queue, the environment and the lock."""
        if type(message[1]) is not int or message[1] < 1 or type(message[2]) is not str:
            raise ValueError("it does not say who it is")
        peer.pid = message[1]
        self.connected.append(message[2])
        if not self.numbers or self.closing:
            self.drop(peer)
            return
        peer.number = min(self.numbers)
        self.numbers.remove(peer.number)
        mine = self.shares.slots[peer.number]
        config = {
            "slot": peer.number,
            "cpus": mine.cpus,
            "env": mine.env,
            "outside": self.shares.outside,
            "run": self.config["run"],
            "folder": self.folder,
            "cwd": self.config["cwd"],
            "lost_after": self.config["lost_after"],
            "grace": self.config["grace"],
            "lease": LEASE,
            "fail_fast": self.config["fail_fast"],
            "stopped_ok": self.config.get("stopped_ok", False),
            "leftovers": self.config.get("leftovers", "keep"),
        }
        fds = [self.queue.slots_end.fileno(), *self.fds]
        rights = struct.pack("%di" % len(fds), *fds)
        try:
            peer.socket.sendmsg([marshal.dumps((slot.CONFIG, config))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError:
            self.gone(peer)

    def holds(self, peer: "Peer", key: "Tuple[Any, ...]") -> None:
        if peer.task is not None:
            raise ValueError("it holds another task")
        peer.task = self.queue.taken(tuple(key))
        peer.session = 0
        self.missing.discard(tuple(key))
        if slot.comes_back(peer.task):
            self.running.append(peer.task)
            self.announced.append(peer)

    def result(self, peer: "Peer", row: "Tuple[Any, ...]") -> None:
        if peer.task is None or not 18 <= len(row) <= 19 or row[:3] != peer.task[:3]:
            raise ValueError("it does not hold this task")
        if type(row[14]) is not bytes or type(row[16]) is not bytes or len(row[14]) + len(row[16]) > 2 * slot.REASON_MOST:
            raise ValueError("it says more than a slot keeps")
        if len(row) > 18:
            if type(row[18]) is not bytes or len(row[18]) > process.TAIL:
                raise ValueError("it has an end of its output that no slot keeps")
            if not self.config.get("tails"):  # an older driver takes no such field
                row = row[:18]
        self.queue.forget(peer.task)
        peer.task = None
        if not self.doubts.on or not self.doubts.keep(row):
            self.results.append(row)

    def let_go(self) -> None:
        """The driver has been told."""
        for peer in self.announced:
            peer.tell(slot.GO)
        del self.announced[:]

    def drop(self, peer: "Peer") -> None:
        self.poll.unregister(peer.fd)
        del self.peers[peer.fd]
        peer.socket.close()
        if peer.number >= 0:
            self.numbers.append(peer.number)

    def gone(self, peer: "Peer") -> None:
        """Its socket closed: after a goodbye that is all; else its task is lost, or one that it took without saying so."""
        self.drop(peer)
        self.asked.pop(peer.fd, None)
        if not peer.goodbye:
            if peer.task is not None:
                self.losses.add(peer.task[:3], peer.session)
                self.queue.forget(peer.task)
            if peer.pid and self.queue.queued:  # a result goes with the next task's name: it may have died between the two
                self.roll_call()
        self.check_roll()

    def roll_call(self) -> None:
        """What is neither in the queue nor held by a slot that lives was taken by the dead one."""
        self.queue.drain()
        self.missing.update(self.queue.queued)
        for fd, peer in self.peers.items():
            if peer.pid and not peer.goodbye:
                self.asked[fd] = self.asked.get(fd, 0) + 1
                peer.tell(slot.ROLL)

    def answered(self, peer: "Peer") -> None:
        left = self.asked.pop(peer.fd, 0) - 1
        if left > 0:
            self.asked[peer.fd] = left
        self.check_roll()

    def check_roll(self) -> None:
        if self.asked:
            return
        for key in self.missing:
            task = self.queue.queued.pop(key, None)
            if task is not None:
                self.queue.forget(task)
                self.losses.add(key)
        self.missing.clear()

    def tell_all(self, *message: "Any") -> None:
        for peer in self.peers.values():
            if peer.pid:
                peer.tell(*message)

    def beat(self) -> None:
        """A sign of life for each. One that answers none any more (stopped, stuck) is killed: its task is lost with it."""
        for peer in self.peers.values():
            if peer.pid:
                if peer.unanswered >= UNANSWERED:
                    ending.signal_all([peer.pid], ending.KILL)
                peer.unanswered += 1  # counted, not timed: this node may have slept
                peer.tell(slot.BEAT)

    def quit(self) -> None:
        """Each leaves when it has finished what it holds; no more are let in."""
        self.closing = True
        self.tell_all(slot.QUIT)

    def kill(self) -> None:
        """Those that have not left: end them and what they run."""
        self.listener.close()
        while self.spare:
            os.close(self.spare.pop())
        for peer in list(self.peers.values()):
            if peer.pid:
                ending.signal_all([peer.pid], ending.KILL)
            if peer.task is not None:
                self.losses.kill(peer.task[:3], peer.session, 2.0)
