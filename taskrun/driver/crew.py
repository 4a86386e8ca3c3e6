"""The engines of a run: starts their agents, keeps their links, and translates between frames and the scheduler's messages."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskrun.agent import wire
from taskrun.engines import frames, local
from taskrun.engines.local import LocalAgent
from taskrun.engines.request import EngineRequest
from taskrun.model import NO_REPEAT, Task
from taskrun.scheduling import messages as m

READY_SECONDS = 60.0  # an agent that is not ready by then will not be
FRAME_SOFT = 1 << 20  # bytes of commands after which a frame is sent; a single command may be longer
NO_SLOT = -1  # PERENGINE commands run beside the slots
_TEXT = "utf-8", "surrogateescape"


class Member:
    """One engine: its agent behind a link."""

    def __init__(self, name: str, context: str, request: EngineRequest, agent: LocalAgent, log: Path) -> None:
        self.name = name
        self.context = context
        self.request = request
        self.agent = agent
        self.log = log
        self.rank = -1
        self.since = time.monotonic()
        self.joined = False  # it has said hello
        self.available = False  # the scheduler knows it
        self.facts: dict[str, Any] = {}  # what the agent said of its node
        self.starter = ""  # what starts slots there
        self.ready = False  # it has said that its slots can be used
        self.heard = self.since
        self.gone_keys: list[m.Key] = []


class Crew:
    """All engines of all contexts of this machine."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        post: Callable[[m.Event], None],
        note: Callable[[str, str], None],
        joined: Callable[[Member], None],
        config: dict[str, Any],
        prefix: Path,
        held_fd: int,
    ) -> None:
        self.selector = selector
        self.post = post
        self.note = note
        self.on_joined = joined
        self.config = config
        self.prefix = prefix
        self.held_fd = held_fd
        self.members: dict[str, Member] = {}
        self.requests: dict[str, list[EngineRequest]] = {}
        self.folders: list[str] = []  # of its agents; one that is killed cannot remove its own
        self.ranks = 0
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
        }
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    # starting and ending

    def add_context(self, context: str, requests: list[EngineRequest], limit: int) -> None:
        self.requests[context] = requests
        self.post(m.ContextJoined(context, limit))
        for request in requests:
            self._start(context, request, [])

    def _start(self, context: str, request: EngineRequest, gone_keys: list[m.Key]) -> None:
        name = f"{request.host}_{self.ranks}"
        rank = self.ranks
        self.ranks += 1
        log = self.prefix.with_name(f"{self.prefix.name}_{name}.log")
        try:
            log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError:
            log_fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            agent = LocalAgent(self.held_fd, log_fd)
        except OSError as error:
            self.note("error", f"{request.host}: the agent cannot be started: {error}")
            self.post(m.ContextGone(context, str(error)))
            return
        finally:
            os.close(log_fd)
        member = Member(name, context, request, agent, log)
        member.rank = rank
        member.gone_keys = gone_keys
        with self.lock:
            self.members[name] = member
        self.selector.register(agent.link.read_fd, selectors.EVENT_READ, lambda: self._readable(member))

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
        with contextlib.suppress(OSError):
            if not member.log.stat().st_size:
                member.log.unlink()

    def _closed(self, member: Member, why: str) -> None:
        self._drop(member)
        if not member.agent.wait(2.0):
            member.agent.kill()
        if member.available:
            self.post(m.LinkClosed(member.name, why))
        else:
            self.note("error", f"{member.request.host}: {why} (see {member.log.name})")
            self.post(m.ContextGone(member.context, why))

    def check(self) -> None:
        """Now and then: agents that do not get ready, and bytes that wait to be written."""
        now = time.monotonic()
        for member in list(self.members.values()):
            # one that is ready may still have to end what an earlier one left, and beats meanwhile
            if not member.available and now - (member.heard if member.ready else member.since) > READY_SECONDS:
                member.agent.kill()
                self._closed(
                    member,
                    f"the agent was not ready after {READY_SECONDS:.0f} s"
                    if member.joined
                    else f"the agent said nothing for {READY_SECONDS:.0f} s",
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

    def close(self) -> None:
        """Let every agent go: links close, agents end what they still run and leave nothing."""
        self.stop_beating.set()
        members = list(self.members.values())
        for member in members:
            self._drop(member)
        for member in members:
            if not member.agent.wait(6.0):
                member.agent.kill()
        for folder in self.folders:
            local.remove_folder(folder)

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
            self._closed(member, f"the agent does not speak as agreed: {error}")
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
        folder = f"taskrun-{os.urandom(8).hex()}"
        self.folders.append(folder)
        member.agent.link.send({**self.config, "k": "config", "env": env, "slots": request.slots, "folder": folder})
        member.joined = True
        if member.gone_keys:
            member.agent.link.send({"k": "gone", "keys": member.gone_keys})
        member.facts = message.facts

    def _on_ready(self, member: Member, message: frames.Ready) -> None:
        if not member.joined or member.ready:
            raise wire.BadFrame("`ready` at a wrong time")
        member.ready = True
        member.starter = message.starter
        if not member.gone_keys:
            self._available(member)

    def _available(self, member: Member) -> None:
        self.on_joined(member)
        member.available = True
        self.post(m.EngineJoined(member.name, member.context, member.rank, member.request.slots, member.request.host))

    def _on_done(self, member: Member, message: frames.Done) -> None:
        if message.taken:
            self.post(m.Taken(member.name, message.taken))
        if message.results:
            self.post(m.Results(member.name, message.results))

    def _on_lost(self, member: Member, message: frames.Lost) -> None:
        keys = message.keys
        if member.gone_keys:
            gone = set(member.gone_keys)
            member.gone_keys = [key for key in member.gone_keys if key not in keys]
            keys = [key for key in keys if key not in gone]
            if not member.gone_keys and member.ready:
                self._available(member)
        if keys:
            self.post(m.SlotsLost(member.name, keys))

    def _on_recalled(self, member: Member, message: frames.Recalled) -> None:
        self.post(m.Recalled(member.name, message.keys))

    def _on_told(self, member: Member, message: frames.Told) -> None:
        self.post(m.AgentTold(member.name, message.signal))

    def _on_useless(self, member: Member, message: frames.Useless) -> None:
        self.note("error", f"{member.request.host}: {message.why}")
        self.post(m.EngineUseless(member.name, message.why))

    def _on_note(self, member: Member, message: frames.Note) -> None:
        self.note(message.level, f"{member.request.host}: {message.text}")

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

    def give_up(self, action: m.GiveUp) -> None:
        member = self.members.get(action.engine)
        if member is not None:
            self.note("warning", f"{member.request.host}: the engine is lost: {action.why}")
            self._drop(member)
            member.agent.kill()

    def replace(self, action: m.Replace) -> None:
        """A lost engine of this machine: a new agent, which first makes sure that nothing of the old one's tasks is left."""
        host = action.engine.rpartition("_")[0]
        request = next(request for request in self.requests[action.context] if request.host == host)
        self.note("warning", f"{host}: a new agent takes the place of the lost one")
        self._start(action.context, request, action.keys)

    def _send(self, engine: str, message: dict[str, Any]) -> None:
        member = self.members.get(engine)
        if member is not None:
            member.agent.link.send(message)
            if member.agent.link.waiting:
                self._write_later(member)
