"""The engines of a run: starts their agents, keeps their links, and translates between frames and the scheduler's messages."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskrun.agent import wire
from taskrun.driver.member import REACHES, Member, Reaching, packed_parallel
from taskrun.engines import frames, local, slurm
from taskrun.engines.command import last_words
from taskrun.engines.link import Agent, end_agents
from taskrun.engines.request import EngineRequest
from taskrun.engines.slurm import Steps
from taskrun.errors import Refused
from taskrun.model import NO_REPEAT, Result, Task
from taskrun.scheduling import messages as m

if TYPE_CHECKING:
    from taskrun.driver.visits import Visit

READY_SECONDS = 60.0  # an agent that is not ready by then, once its host has answered, will not be
REACH_SECONDS = 180.0  # and one of which nothing is heard: connecting and logging in have limits of their own
TRIES = 4  # to reach a host at first, unless the first says that the others will fail, too
PAUSE_MOST = 60.0  # seconds between two tries to reach a host that was lost
END_SECONDS = 6.0  # for agents to end what they still run, when the run is over
FRAME_SOFT = 1 << 20  # bytes of commands after which a frame is sent; a single command may be longer
NO_SLOT = -1  # PERENGINE commands run beside the slots
_TEXT = "utf-8", "surrogateescape"


class Crew:
    """All engines of all contexts of this run."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        post: Callable[[m.Event], None],
        note: Callable[[str, str], None],
        joined: Callable[[Member], None],
        config: dict[str, Any],
        prefix: Path,
        held_fd: int,
        ssh: str = "",
        require_all: bool = False,
    ) -> None:
        """`config`: what every agent is told; its item `shipped` holds what only those on other hosts are."""
        self.selector = selector
        self.post = post
        self.note = note
        self.on_joined = joined
        self.shipped = config.pop("shipped")
        self.config = config
        self.prefix = prefix
        self.held_fd = held_fd
        self.ssh = ssh
        self.require_all = require_all
        self.members: dict[str, Member] = {}
        self.steps: dict[str, Steps] = {}  # of the contexts that are SLURM allocations
        self.visits: dict[str, Visit] = {}  # contexts that a guest has brought
        self.set_apart: set[tuple[str, str]] = set()  # (context, host) that are not asked again
        self.on_left: Callable[[Member], None] = lambda _: None  # an engine's link is closed
        self.on_changed: Callable[[str, str, str], None] = lambda *_: None  # an engine: `left` or `lost`, its name, why
        self.seats: dict[str, tuple[str, EngineRequest]] = {}  # every engine there has been -> context, request
        self.folders: dict[str, list[str]] = {}  # address -> private folders of agents there; one that is killed cannot remove its own
        self.later: list[tuple[float, Member]] = []  # hosts to be tried again, and when
        self.complete: list[Member] = []  # those that are ready, while others must be, too, or hosts of earlier runs are not sure
        self.earlier: list[str] = []  # runs that this one carries on, of which something may still live on other hosts
        self.unsure: dict[str, float] = {}  # address -> until when (monotonic) it may
        self.silent: dict[str, float] = {}  # the same of this run's own: address of an engine that was lost -> when it was heard
        self.silence = 0.0  # seconds after which what is not heard has ended
        self.missing: list[str] = []  # hosts that could not be had, each with why
        self.ending: list[tuple[float, Agent]] = []  # agents whose links are closed, and when they are killed
        self.notes: deque[tuple[str, str]] = deque()  # from threads
        self.ranks = 0
        self.had_one = False  # an engine was available
        self.closed = False
        self.lock = threading.Lock()
        self.stop_beating = threading.Event()
        self.beat_every = min(15.0, max(0.2, config["lost_after"] / 8.0))
        self._handlers: dict[type, Callable[[Member, Any], None]] = {
            frames.Hello: self._on_hello,
            frames.Ready: self._on_ready,
            frames.Done: self._on_done,
            frames.Lost: self._on_lost,
            frames.Recalled: self._on_recalled,
            frames.Told: self._on_told,
            frames.Useless: self._on_useless,
            frames.Note: self._on_note,
            frames.Cleared: self._on_cleared,
            frames.Beat: self._on_beat,
        }
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    # starting and ending

    def add_context(self, joined: m.ContextJoined, requests: list[EngineRequest], steps: Steps | None = None) -> None:
        """Raises Refused when no engine of it can be had."""
        context = joined.context
        if steps is not None:
            self.steps[context] = steps
        self.post(joined._replace(expected=len(requests)))
        for request in requests:
            rank = self.ranks
            self.ranks += 1
            self._start(context, request, rank)

    def _start(self, context: str, request: EngineRequest, rank: int, earlier: Member | None = None) -> None:
        """`earlier`: the try before this one."""
        name = f"{request.host}_{rank}"
        self.seats[name] = (context, request)
        log = self._log_path(name)
        member = Member(name, context, request, rank, log)
        if earlier is not None:
            member.tries, member.replaces, member.gone_keys = earlier.tries, earlier.replaces, earlier.gone_keys

        def note(text: str) -> None:
            self.notes.append(("warning", text))

        try:
            log_fd = _open_log(log)
            try:
                member.log_start = os.fstat(log_fd).st_size
                reaching = Reaching(self.held_fd, self.ssh, log, log_fd, note, self.steps.get(context), self.visits.get(context))
                member.agent = REACHES[request.reach](request, reaching)
            finally:
                os.close(log_fd)
        except OSError as error:
            self._unreachable(member, f"its agent cannot be started: {error}", permanent=isinstance(error, FileNotFoundError))
            return
        with self.lock:
            self.members[name] = member
        self.selector.register(member.agent.link.read_fd, selectors.EVENT_READ, lambda: self._readable(member))
        if member.agent.link.waiting:
            self._write_later(member)

    def _log_path(self, engine: str) -> Path:
        return self.prefix.with_name(f"{self.prefix.name}_{engine}.log")

    def _beat(self) -> None:
        """In a thread of its own: a slow disk is not silence."""
        while not self.stop_beating.wait(self.beat_every):
            with self.lock:
                members = [member for member in self.members.values() if member.joined]
            for member in members:
                member.agent.link.send({"k": "beat"})

    def _drop(self, member: Member) -> None:
        with self.lock:
            self.members.pop(member.name, None)
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(member.agent.link.read_fd)
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(member.agent.link.write_fd)
        member.agent.link.close()

    def _tidy_log(self, member: Member) -> None:
        with contextlib.suppress(OSError):
            if not member.log.stat().st_size:
                member.log.unlink()

    def _closed(self, member: Member, why: str) -> None:
        agent = member.agent
        said = member.why or agent.failure or ("" if member.joined else last_words(member.log, member.log_start) or agent.link.noise)
        permanent = bool(member.why) or agent.permanent
        self._drop(member)
        self.ending.append((time.monotonic() + 2.0, agent))
        if self._is_deserted(member):
            self.context_gone(member.context, why)
        if member.available:
            self._tidy_log(member)
            lives_on = agent.lives_on
            if lives_on:
                member.lost_for_good = permanent and member.request.reach == "slurm"
                what = "SLURM has lost this node" if member.lost_for_good else said or why
                self.note("warning", f"{member.request.host}: {what}; what it ran runs elsewhere when it has been silent for long enough")
                if member.lost_for_good:
                    self.set_apart.add((member.context, member.request.host))
                self.silent[member.request.address] = member.heard
            self.on_left(member)
            self.post(m.LinkClosed(member.name, f"{why} ({said})" if said else why, member.heard if lives_on else None))
        else:
            if member in self.complete:
                self.complete.remove(member)
            self._unreachable(member, frames.sentence(said).removeprefix("taskrun: ") if said else why, permanent=permanent)

    def _unreachable(self, member: Member, why: str, *, permanent: bool) -> None:
        """It could not be had, this time. Raises Refused when the run cannot do without."""
        self._tidy_log(member)
        if self._is_deserted(member):
            return
        host = member.request.host
        member.tries += 1
        first = member.tries == 1
        if member.replaces and not (permanent and member.request.reach == "slurm"):
            if first:
                self.note("warning", f"{host}: {why}; it is tried again")
                self.post(m.EngineMissing(member.context, host, why))
        elif permanent or member.tries >= TRIES:
            self.missing.append(f"{host}: {why}")
            self.post(m.EngineMissing(member.context, host, why))
            alone = not self.had_one and not self.later and not any(each is not member for each in self.members.values())
            if (self.require_all or alone) and member.request.reach != "relay":
                raise Refused("\ntaskrun: ".join(self.missing) if alone else f"{self.missing[-1]} (--require-all)")
            self.note("error", f"{host}: {why}")
            return
        elif first:
            self.note("warning", f"{host}: {why}; it is tried again")
        pause = min(PAUSE_MOST, 2.0 ** (member.tries - 1))
        self.later.append((time.monotonic() + pause, member))

    def _is_deserted(self, member: Member) -> bool:
        """Who brought its context has gone."""
        visit = self.visits.get(member.context)
        return visit is not None and visit.gone

    def context_gone(self, context: str, why: str) -> None:
        """No engine of it will come any more. Those that are there lose their links by themselves."""
        self.post(m.ContextGone(context, why))
        self.later = [each for each in self.later if each[1].context != context]

    def has_any(self, context: str) -> bool:
        """There is an engine of it, or one that is being tried."""
        return any(each.context == context for each in [*self.members.values(), *(member for _, member in self.later)])

    def check(self) -> None:
        """Now and then: agents that do not get ready, bytes that wait to be written, hosts that are to be tried again. Raises Refused."""
        now = time.monotonic()
        while self.notes:
            self.note(*self.notes.popleft())
        for each in [each for each in self.ending if each[1].ended() or (each[0] < now and not each[1].held)]:
            self.ending.remove(each)
            each[1].kill()
        if self.unsure and max(self.unsure.values()) <= now:
            self.unsure.clear()
            self._join_complete()
        for due in [due for due in self.later if due[0] <= now]:
            self.later.remove(due)
            self._start(due[1].context, due[1].request, due[1].rank, due[1])
        for member in list(self.members.values()):
            # one that is ready may still have to end what an earlier one left, and beats meanwhile
            patience = READY_SECONDS if member.joined or member.here else REACH_SECONDS
            if not member.available and member not in self.complete and now - (member.heard if member.ready else member.since) > patience:
                member.agent.kill()
                self._closed(
                    member,
                    f"the agent was not ready after {patience:.0f} s" if member.joined else f"nothing was heard for {patience:.0f} s",
                )
            elif member.agent.link.waiting:
                self._write_later(member)

    def _write_later(self, member: Member) -> None:
        link = member.agent.link

        def writable() -> None:
            link.flush()
            if not link.waiting:
                self.selector.unregister(link.write_fd)

        with contextlib.suppress(KeyError, ValueError):
            self.selector.register(link.write_fd, selectors.EVENT_WRITE, writable)

    def close(self, *, keep_logs: bool = True) -> None:
        """Let every agent go: links close, agents end what they still run and leave nothing."""
        if self.closed:
            return
        self.closed = True
        self.stop_beating.set()
        self.later.clear()
        agents = [agent for _, agent in self.ending]
        members = list(self.members.values())
        for member in members:
            self._drop(member)
            self._tidy_log(member)
            if member.joined or member.here:
                agents.append(member.agent)
            else:
                member.agent.kill()
        killed = end_agents(agents, END_SECONDS)
        for member in members:
            if member.joined and not member.here and (member.agent in killed or member.agent.lives_on):
                self.silent[member.request.address] = member.heard
        if not keep_logs:
            for name in self.seats:
                self._log_path(name).unlink(missing_ok=True)
        for folder in self.folders.get("", ()):
            local.remove_folder(folder)
        while self.notes:
            self.note(*self.notes.popleft())

    def may_live_on(self) -> dict[str, float]:
        """When all is closed: address -> epoch seconds until which something of this run, or of the ones it carries on, may live there."""
        now = time.monotonic()
        ends = dict(self.unsure)
        for address, heard in self.silent.items():
            ends[address] = max(ends.get(address, 0.0), heard + self.silence)
        return {address: time.time() + end - now for address, end in ends.items() if end > now}

    # frames in

    def _readable(self, member: Member) -> None:
        try:
            received = member.agent.link.read()
            if received is None:
                self._closed(member, "the agent's link is closed")
                return
            member.heard = time.monotonic()
            for frame in received:
                message = frames.message_of(frame)
                handler = self._handlers.get(type(message))
                if handler is not None:
                    handler(member, message)
        except wire.BadFrame as error:
            why = f"the agent does not speak as agreed: {error}"
            if not member.available:  # another try would end so, too
                member.why = why
            self._closed(member, why)
            return
        if received and member.joined:
            self.post(m.Heard(member.name))

    def _on_hello(self, member: Member, message: frames.Hello) -> None:
        if member.joined:
            raise wire.BadFrame("a second `hello`")
        if message.protocol != wire.PROTOCOL:
            raise wire.BadFrame(f"its protocol is {message.protocol}, not {wire.PROTOCOL}")
        request = member.request
        env = {
            **self.config["env"],
            "DISBATCH_ENGINE_RANK": str(member.rank),
            "TASKRUN_ENGINE_RANK": str(member.rank),
            "DISBATCH_CORES_PER_TASK": str(request.cores_per_task),
            "TASKRUN_CORES_PER_TASK": str(max(1, request.cores_per_task)),
        }
        config = dict(self.config)
        steps = self.steps.get(member.context)
        if steps is not None:
            env |= slurm.task_environment(request, steps)
            config |= {"share": slurm.share_of(request, steps, config["share"]), "alone": slurm.alone(request, steps)}
        folder = f"taskrun-{os.urandom(8).hex()}"
        folders = self.folders.setdefault("" if member.here else request.address, [])
        config |= {"k": "config", "slots": request.slots, "folder": folder, "sweep": folders[:]}
        visit = self.visits.get(member.context)
        if not member.here:
            config |= {name: value for name, value in self.shipped.items() if name != "env"}
            env = {**self.shipped["env"], **(visit.variables(request) if visit is not None else {}), **env}
            if self.config["starter"] != "builtin" and message.facts["perl"] and not message.facts["parallel"]:
                config["parallel"] = packed_parallel()
        if visit is not None:
            config |= {"share": visit.shares(request), "workdir": visit.workdir or config["workdir"]}
        if self.earlier and not member.here:
            config["earlier"] = self.earlier
            member.cleared = False
        folders.append(folder)
        member.facts = message.facts
        member.joined = True
        member.asked = time.time()
        member.agent.link.send({**config, "env": env})
        if member.gone_keys:
            member.agent.link.send({"k": "gone", "keys": member.gone_keys})
        if member.agent.link.waiting:
            self._write_later(member)

    def _on_ready(self, member: Member, message: frames.Ready) -> None:
        if not member.joined or member.ready:
            raise wire.BadFrame("`ready` at a wrong time")
        member.ready = True
        member.starter = message.starter
        member.shared, member.cwd = message.shared, message.cwd
        if 0 < message.slots < member.request.slots:
            member.request = member.request._replace(slots=message.slots)
        if not member.here:  # as NTP does: what the way there and the way back have in common cancels out
            member.offset = ((member.asked - message.came) + (time.time() - message.now)) / 2
        self._look_at(member)

    def _look_at(self, member: Member) -> None:
        """Once nothing of what was there before is left, its slots can be used. With --require-all, when that is true of every engine."""
        if not member.ready or member.gone_keys or not member.cleared:
            return
        if member.replaces:
            self.silent.pop(member.request.address, None)
        self.complete.append(member)
        self._join_complete()

    def _join_complete(self) -> None:
        if self.unsure or (self.require_all and not self.had_one and len(self.complete) < self.ranks):
            return
        complete, self.complete = self.complete, []
        for each in complete:
            self._join(each)

    def _join(self, member: Member) -> None:
        self.on_joined(member)
        member.available = self.had_one = True
        member.tries = 0
        self.post(m.EngineJoined(member.name, member.context, member.rank, member.request.slots, member.request.host))

    def _on_done(self, member: Member, message: frames.Done) -> None:
        if message.taken:
            self.post(m.Taken(member.name, message.taken))
        if message.results:
            self.post(
                m.Results(
                    member.name, [by_our_clock(each, member.offset) for each in message.results] if member.offset else message.results
                )
            )

    def _on_lost(self, member: Member, message: frames.Lost) -> None:
        keys = message.keys
        if member.gone_keys:
            gone = set(member.gone_keys)
            member.gone_keys = [key for key in member.gone_keys if key not in keys]
            keys = [key for key in keys if key not in gone]
            if not member.gone_keys:
                self._look_at(member)
        if keys:
            self.post(m.SlotsLost(member.name, keys))

    def _on_recalled(self, member: Member, message: frames.Recalled) -> None:
        self.post(m.Recalled(member.name, message.keys))

    def _on_told(self, member: Member, message: frames.Told) -> None:
        self.post(m.AgentTold(member.name, message.signal))

    def _on_useless(self, member: Member, message: frames.Useless) -> None:
        if not member.available:  # it says why, and goes
            member.why = message.why
            return
        self.note("error", f"{member.request.host}: {message.why}")
        self.post(m.EngineUseless(member.name, message.why))

    def _on_cleared(self, member: Member, _: frames.Cleared) -> None:
        if member.cleared:
            raise wire.BadFrame("`cleared` at a wrong time")
        member.cleared = True
        self.unsure.pop(member.request.address, None)
        self._look_at(member)
        self._join_complete()

    def _on_note(self, member: Member, message: frames.Note) -> None:
        self.note(message.level, f"{member.request.host}: {message.text}")

    @staticmethod
    def _on_beat(member: Member, message: frames.Beat) -> None:
        member.load = message.load

    # actions out

    def assign(self, action: m.Assign) -> None:
        rows: list[tuple[Any, ...]] = []
        size = 0
        for (kind, number, n), task in action.attempts:
            if isinstance(task, Task):
                row = (kind, number, n, task.line, task.repeat, task.command.decode(*_TEXT), None)
                rows.append(row if task.file is None else (*row, task.file.decode(*_TEXT)))
            else:
                rows.append((kind, number, n, task.line, NO_REPEAT, task.command.decode(*_TEXT), NO_SLOT))
            size += len(task.command)
            if size > FRAME_SOFT:
                self._send(action.engine, {"k": "tasks", "t": rows})
                rows, size = [], 0
        if rows:
            self._send(action.engine, {"k": "tasks", "t": rows})

    def recall(self, action: m.Recall) -> None:
        self._send(action.engine, {"k": "recall", "n": action.count})

    def end(self, action: m.End) -> None:
        self._send(action.engine, {"k": "end", "how": action.how, "grace": action.grace, "keys": None})

    def leave(self, action: m.Leave) -> None:
        self._send(action.engine, {"k": "leave"})
        self.on_changed("left", action.engine, "")

    def give_up(self, action: m.GiveUp) -> None:
        self.on_changed("lost", action.engine, action.why)
        member = self.members.get(action.engine)
        if member is not None:
            self.note("warning", f"{member.request.host}: the engine is lost: {action.why}")
            self.silent[member.request.address] = member.heard
            self._drop(member)
            self._tidy_log(member)
            self.on_left(member)
            member.agent.kill()

    def refuse(self, member: Member, why: str) -> None:
        """It is there and of no use to this run."""
        self.note("error", f"{member.request.host}: {why}")
        self._drop(member)
        self._tidy_log(member)
        member.agent.kill()
        self.post(m.EngineMissing(member.context, member.request.host, why))

    def replace(self, action: m.Replace) -> None:
        """A lost engine: a new agent there, which first makes sure that nothing of the old one's tasks is left."""
        context, request = self.seats[action.engine]
        if (context, request.host) in self.set_apart:
            self.post(m.EngineMissing(context, request.host, "it is lost for good"))
            return
        self.note("warning", f"{request.host}: a new agent takes the place of the lost one")
        rank = self.ranks
        self.ranks += 1
        lost = Member("", context, request, rank, self.prefix)
        lost.replaces, lost.gone_keys = True, action.keys
        self._start(context, request, rank, lost)

    def set_aside(self, action: m.SetAside) -> None:
        self.note("error", f"{action.node}: {action.failures} engines were lost there in a row, and it is set aside")

    def _send(self, engine: str, message: dict[str, Any]) -> None:
        member = self.members.get(engine)
        if member is not None:
            member.agent.link.send(message)
            if member.agent.link.waiting:
                self._write_later(member)


def by_our_clock(result: Result, offset: float) -> Result:
    return result._replace(start=result.start + offset, end=result.end + offset) if result.end else result


def _open_log(path: Path) -> int:
    """For appending; where it cannot be made, what is said goes nowhere. Raises OSError when no file can be opened at all."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
