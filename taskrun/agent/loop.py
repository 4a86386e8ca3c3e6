"""The agent: one loop over the link and the slots' sockets. It hands out tasks, reports how attempts ended, ends what must end.

Reports are gathered for GATHER seconds while the slots have more to take, so that a thousand short tasks a second cost
a hundred wake-ups, and go out at once when a slot would be idle.
"""

import errno
import os
import select
import signal
import time

from . import folder, probe, share, slot, wire
from .leases import FOLDER_GONE, Leases
from .losses import Before, Losses
from .slots import Slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

GATHER = 0.04  # seconds
NOTE_MOST = 4000  # characters; the driver shows fewer
LOOK_BACK = 0.2  # seconds between two looks at what an earlier run has left
ORPHAN_LIMIT = 3.0  # seconds for slots to go when the driver is lost


class Agent(object):
    def __init__(self, link_in: int, link_out: int, config: "Dict[str, Any]", folder: str, held: "List[int]") -> None:
        """`held`: the lock's descriptors, handed on to slots."""
        self.link_in = link_in
        self.link_out = link_out
        self.out = bytearray()
        self.decoder = wire.Decoder()
        self.folder = folder
        self.apart = "" if config.get("shared", True) else config["cwd"]  # a folder that the driver cannot look at
        self.lost_after = config["lost_after"]
        self.beat_every = min(15.0, max(0.2, self.lost_after / 8.0))
        self.heard = slot.clock()
        self.beat_at = 0.0
        self.gathered = 0.0
        self.leaving = False
        self.orphaned = 0.0
        self.alone = False  # the driver fell silent
        self.useless = False
        self.told_of_delay = False
        self.poll = select.poll()
        self.urgent = select.poll()  # what is looked at while results are gathered
        self.wake, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.told: "List[int]" = []
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, lambda number, _: self.told.append(int(number)))
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(wake_write)
        self.losses = Losses(config["run"])
        self.before = [Before(run, config.get("anybody", True)) for run in config.get("earlier", ())]
        self.look_back_at = 0.0
        shares = divided(config)
        config["slots"] = len(shares.slots)
        self.slots = Slots(self.poll, folder, config, shares, environment(config, folder), held, self.losses)
        self.poll.register(link_in, select.POLLIN)
        self.poll.register(self.slots.listener, select.POLLIN)
        self.poll.register(self.wake, select.POLLIN)
        self.urgent.register(link_in, select.POLLIN)
        self.leases = Leases(config, config["slot_command"] + [self.slots.path], folder, self.note)
        self.send(
            {
                "k": "ready",
                "starter": self.leases.starter.name,
                "slots": self.slots.count,
                "shared": config.get("shared", True),
                "cwd": config["cwd"],
                "folder": folder,
                "leftovers": config.get("leftovers", "keep"),
                "came": config["came"],
                "now": time.time(),
            }
        )
        for level, texts in (("warning", shares.warnings), ("info", shares.notes)):
            for text in texts:
                self.note(level, text)

    # the link

    def send(self, *messages: "Dict[str, Any]") -> None:
        if not self.orphaned:
            for message in messages:
                self.out += wire.frame(message)
            self.flush()

    def flush(self) -> None:
        try:
            while self.out:
                del self.out[: os.write(self.link_out, self.out[:65536])]
        except BlockingIOError:
            self.poll.register(self.link_out, select.POLLOUT)
            self.urgent.register(self.link_out, select.POLLOUT)
            return
        except OSError:
            self.orphan("the link is closed")
            return
        self.forget(self.link_out)

    def forget(self, fd: int) -> None:
        for poll in (self.poll, self.urgent):
            try:
                poll.unregister(fd)
            except KeyError:
                pass

    def note(self, level: str, text: str) -> None:
        self.send({"k": "note", "level": level, "text": text[:NOTE_MOST]})

    def read_link(self) -> None:
        try:
            data = os.read(self.link_in, 1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.orphan("the link is closed")
            return
        self.heard = slot.clock()
        for message in self.decoder.feed(data):
            getattr(self, "on_" + message["k"], self.on_unknown)(message)

    def on_told(self, number: int) -> None:
        """The system tells this node to stop. In a step of SLURM each process is told so: slots, and GNU Parallel, too."""
        self.send({"k": "told", "signal": number})
        self.slots.doubts.tell()
        self.leases.use_builtin()

    def on_unknown(self, message: "Dict[str, Any]") -> None:
        self.note("warning", "unknown message %s" % message["k"])

    def on_beat(self, _message: "Dict[str, Any]") -> None:
        """The driver lives: that it was heard is all."""

    def on_tasks(self, message: "Dict[str, Any]") -> None:
        queue = self.slots.queue
        if queue.stopped and message["t"][0][0] != "task":
            queue.stopped = False  # a PERENGINE STOP command after a failure
        add = queue.add
        for row in message["t"]:
            row[5] = wire.to_bytes(row[5])  # the command
            if len(row) > 7:  # and what FOREACH adds: its file
                row[7] = wire.to_bytes(row[7])
            add(tuple(row))

    def on_recall(self, message: "Dict[str, Any]") -> None:
        queue = self.slots.queue
        tasks = queue.recall(message["n"])
        for task in tasks:
            queue.forget(task)
        keys = [task[:3] for task in tasks]
        self.send(*[{"k": "recalled", "keys": some} for some in list(wire.portions(keys, key_size)) or [[]]])

    def on_end(self, message: "Dict[str, Any]") -> None:
        """End what runs, after giving back what has not started."""
        self.on_recall({"n": len(self.slots.queue)})
        self.slots.tell_all(slot.END, None, message["how"], message["grace"])

    def on_leave(self, _message: "Dict[str, Any]") -> None:
        self.leaving = True
        self.leases.close()
        self.slots.quit()

    def on_gone(self, message: "Dict[str, Any]") -> None:
        """Attempts lost with an earlier agent on this node: make sure that nothing of them is left, then say so."""
        for key in message["keys"]:
            self.losses.add(tuple(key))

    def orphan(self, why: str) -> None:
        """The driver is lost: end everything, leave nothing."""
        if self.orphaned:
            return
        self.orphaned = slot.clock()
        self.out = bytearray()
        try:
            os.write(2, ("taskrun agent: %s, ending its tasks\n" % why).encode("utf-8", "replace"))
        except OSError:
            pass
        self.forget(self.link_in)
        self.forget(self.link_out)
        self.slots.queue.recall(len(self.slots.queue))
        self.leases.close()
        self.slots.tell_all(slot.END, None, "engine-lost", slot.ORPHAN_GRACE)
        self.slots.quit()

    # the loop

    def serve(self) -> None:
        """Until the driver lets go or is lost."""
        while True:
            now = time.monotonic()
            ending_now = self.leaving or bool(self.orphaned)
            self.slots.queue.feed()
            if self.slots.doubts.on:
                self.settle(now)
            if self.slots.results or self.slots.running:
                self.maybe_report(now, ending_now)
            if self.slots.announced and not self.out:
                self.slots.let_go()
            if self.beat_at <= now:
                self.beat(now)
            if not ending_now:
                self.leases.step(self.slots.wanted(), now)
                self.check_use()
            if self.losses.open:
                keys = self.losses.step()
                if keys:
                    self.report()
                    self.send(*[{"k": "lost", "keys": some} for some in wire.portions(keys, key_size)])
            if self.before:
                self.look_back(now)
            if self.leaving and not self.slots.peers and not self.losses.open:
                self.report()
                outlive, rows = self.slots.remains.look()
                if outlive:
                    self.send({"k": "outlive", "n": outlive, "p": rows})
                self.send({"k": "bye"})
                return
            nothing_left = not self.slots.peers and not self.losses.open
            if self.orphaned and (nothing_left or slot.clock() - self.orphaned > ORPHAN_LIMIT):
                return
            self.take(self.wait(now))
            while self.told:
                self.on_told(self.told.pop(0))
            while self.slots.connected:
                self.leases.connected(self.slots.connected.pop())
            if self.slots.turned_away:
                self.leases.turned_away(self.slots.turned_away)
                self.slots.turned_away = 0

    def look_back(self, now: float) -> None:
        """At what earlier runs have left here. The driver is told when it is gone."""
        if now >= self.look_back_at:
            self.look_back_at = now + LOOK_BACK
            self.before = [each for each in self.before if not each.step(slot.clock())]
            if not self.before:
                self.send({"k": "cleared"})

    def settle(self, now: float) -> None:
        """Results that were in doubt and are so no more."""
        taken = self.slots.doubts.take()
        if taken and not self.slots.results:
            self.gathered = now
        self.slots.results += taken

    def wait(self, now: float) -> "List[Tuple[int, int]]":
        """What is ready; while results are gathered the slots are left alone for a moment."""
        if self.slots.results:
            return self.urgent.poll(GATHER * 1000) or self.poll.poll(0)
        if self.losses.open or self.orphaned:
            return self.poll.poll(50)
        until = min(self.beat_at, self.look_back_at) if self.before else self.beat_at
        if self.slots.doubts.on:
            until = min(until, now + self.slots.doubts.wait())
        return self.poll.poll(max(0.0, min(until - now, self.leases.wait(now))) * 1000 + 1)

    def take(self, ready: "List[Tuple[int, int]]") -> None:
        for fd, _ in ready:
            if fd == self.link_in:
                self.read_link()
            elif fd == self.wake:
                os.read(self.wake, 512)
            elif fd == self.link_out:
                self.flush()
            elif fd == self.slots.listener.fileno():
                self.slots.accept()
            else:
                had = bool(self.slots.results)
                self.slots.read(fd)
                if not had and self.slots.results:
                    self.gathered = time.monotonic()

    def maybe_report(self, now: float, ending_now: bool) -> None:
        hurry = ending_now or self.slots.announced or len(self.slots.queue) <= self.slots.count // 2 or not self.slots.results
        if hurry or now - self.gathered >= GATHER:
            self.report()

    def report(self) -> None:
        slots = self.slots
        results, slots.results = slots.results, []
        running, slots.running = slots.running, []
        holding = {id(peer.task) for peer in slots.peers.values()} if running else ()
        held = [task[:3] for task in running if id(task) in holding]
        if results or held:
            rows = [
                (*row[:14], wire.to_text(row[14]), row[15], wire.to_text(row[16]), row[17], *map(wire.to_text, row[18:])) for row in results
            ]
            if sum(map(row_size, rows)) + sum(map(key_size, held)) <= wire.PORTION:
                self.send({"k": "done", "r": rows, "t": held})
                return
            self.send(*[{"k": "done", "r": [], "t": some} for some in wire.portions(held, key_size)])
            self.send(*[{"k": "done", "r": some, "t": []} for some in wire.portions(rows, row_size)])

    def beat(self, now: float) -> None:
        self.beat_at = now + self.beat_every
        if slot.clock() - self.heard > self.lost_after:
            self.alone = not self.orphaned
            self.orphan("nothing was heard from the driver for %.0f s" % self.lost_after)
        self.slots.beat()
        try:
            load = os.getloadavg()[0]
        except OSError:
            load = 0.0
        free, room = probe.space(self.apart) if self.apart else (0, 0)
        beat = {"k": "beat", "load": load, "memory": probe.available(), "running": self.slots.held(), "free": free, "room": room}
        self.send(beat)

    def check_use(self) -> None:
        """Slots that were set aside, and the end of the last one."""
        slots = self.slots
        delayed = slots.delayed or self.leases.delayed
        if delayed and not self.told_of_delay:
            self.told_of_delay = True
            self.note("warning", refusal(delayed))
        if self.leases.useless and slots.alive() and not self.useless:  # there is room for these
            slots.refused.append(self.leases.useless)
            slots.count = min(slots.count, slots.alive())
            self.leases.useless = ""
        while slots.refused:
            why = slots.refused.pop()
            self.note("warning", "%s: %d slot%s on" % (why, slots.count, " goes" if slots.count == 1 else "s go"))
            if not slots.count:
                self.leases.useless = why
        if self.leases.starting and not os.path.exists(slots.path):
            # this agent was stopped for so long that its slots took it for dead, or somebody tidied up
            self.leases.useless = FOLDER_GONE
        if self.leases.useless and not self.useless:
            self.useless = True
            self.send({"k": "useless", "why": self.leases.useless})
        if self.useless and not slots.count and len(slots.queue):  # what no slot will take any more
            self.on_recall({"n": len(slots.queue)})

    def close(self) -> None:
        """Leave nothing behind."""
        self.leases.close()
        self.slots.kill()
        for loss in self.losses.open:
            self.losses.kill(loss.key, loss.session, 2.0)
        self.leases.kill()
        folder.remove(self.folder)


def refusal(code: int) -> str:
    """Describe the refusal of processes, and name the places where they may be limited."""
    import resource

    text = "no more processes can be started for now (%s)" % os.strerror(code)
    if code == errno.EAGAIN:
        limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        text += ": `ulimit -u` is %s" % ("unlimited, the system's limit or a cgroup's is reached" if limit < 0 else limit)
    return text + "; tasks wait, and slots that get none for 10 s are set aside"


def key_size(_key: tuple) -> int:
    """Bytes of an attempt's name in a frame, at most."""
    return 60


def row_size(row: tuple) -> int:
    """Bytes of a result in a frame, at most: an escaped byte of a snippet takes six."""
    return 400 + 6 * (len(row[14]) + len(row[16]) + (len(row[18]) if len(row) > 18 else 0))


def divided(config: "Dict[str, Any]") -> share.Shares:
    """What each slot gets of this node."""
    wanted = config.get("share", {})
    order = share.cores_of_node() if wanted.get("cores") else []
    return share.divide(wanted, config["slots"], dict(os.environ, **config["env"]), order)


def environment(config: "Dict[str, Any]", folder: str) -> int:
    """A descriptor on the environment of every task, but for what changes from task to task."""
    env = dict(os.environb)
    for name in (b"PARALLEL_SEQ", b"PARALLEL_JOBSLOT", b"PARALLEL_PID"):
        env.pop(name, None)
    outer = env.pop(b"TASKRUN_ATTEMPT", b"")
    if outer:  # a run within a task: whoever ends that task ends this run's tasks, too
        env[b"TASKRUN_OUTER"] = (env.get(b"TASKRUN_OUTER", b"") + b" " + outer).strip()
    try:
        level = int(env.get(b"SHLVL", b"0"))
    except ValueError:
        level = 0
    env[b"SHLVL"] = b"%d" % max(1, level)  # at 0 bash takes itself for a login over ssh and reads ~/.bashrc
    for name, value in config["env"].items():
        env[wire.to_bytes(name)] = wire.to_bytes(value)
    path = os.path.join(folder, "env")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.unlink(path)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(b"\0".join(name + b"=" + value for name, value in env.items()))
    return fd
