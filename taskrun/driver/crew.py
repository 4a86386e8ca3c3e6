"""The engines of a run: starts their agents, keeps their links, and translates between frames and the scheduler's messages."""

from __future__ import annotations

import contextlib
import selectors
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskrun import threads
from taskrun.agent import wire
from taskrun.driver import orders
from taskrun.driver.admission import Admission
from taskrun.driver.briefing import Common
from taskrun.driver.heartbeat import Heartbeat
from taskrun.driver.mailbox import Mailbox
from taskrun.driver.member import Member, log_path
from taskrun.driver.outliving import Outliving
from taskrun.driver.starting import Starting
from taskrun.engines import frames, local
from taskrun.engines.command import last_words
from taskrun.engines.link import Agent, end_agents, silent_end
from taskrun.engines.request import EngineRequest
from taskrun.engines.slurm import Steps
from taskrun.errors import Refused
from taskrun.scheduling import messages as m

if TYPE_CHECKING:
    from taskrun.driver.visits import Visit
    from taskrun.scheduling.engine import Engine

READY_SECONDS = 60.0  # an agent that is not ready by then, once its host has answered, will not be
REACH_SECONDS = 180.0  # and one of which nothing is heard: connecting and logging in have limits of their own
TRIES = 4  # to reach a host at first, unless the first says that the others will fail, too
PAUSE_MOST = 60.0  # seconds between two tries to reach a host that was lost
QUOTES_MOST = 1000  # notes of one agent that are shown
QUIET_SECONDS = 1.0  # without a result, after which every task that runs has been named
END_SECONDS = 6.0  # for agents to end what they still run, when the run is over


class Crew:
    """All engines of all contexts of this run."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        post: Callable[[m.Event], None],
        note: Callable[[str, str, str], None],
        joined: Callable[[Member], None],
        config: dict[str, Any],
        prefix: Path,
        held_fd: int,
        ssh: str = "",
        require_all: bool = False,
    ) -> None:
        """`note`: takes a level, a sentence, and the host that it is about ('' for none).

        `config`: what every agent is told; its item `shipped` holds what only those on other hosts are.
        """
        self.selector = selector
        self.post = post
        self.note = note
        self.on_joined = joined
        shipped = config.pop("shipped")
        self.prefix = prefix
        self.held_fd = held_fd
        self.ssh = ssh
        self.members: dict[str, Member] = {}
        self.steps: dict[str, Steps] = {}  # of the contexts that are SLURM allocations
        self.visits: dict[str, Visit] = {}  # contexts that a guest has brought
        self.set_apart: set[tuple[str, str]] = set()  # (context, host) that are not asked again
        self.on_left: Callable[[Member], None] = lambda _: None  # an engine's link is closed
        self.on_changed: Callable[[str, str, str], None] = lambda *_: None  # an engine: `left` or `lost`, its name, why
        self.seats: dict[str, tuple[str, EngineRequest]] = {}  # every engine there has been -> context, request
        self.mail = Mailbox(selector)
        self.starting = Starting(self.mail, self._start, lambda: self.admission.had_one)
        self.admission = Admission(Common(config, shipped), self.steps, self.visits, self._tell, self._join, require_all=require_all)
        self.survivors = self.admission.survivors
        self.outliving = Outliving()
        self.missing: list[str] = []  # hosts that could not be had, each with why
        self.ending: list[tuple[float, Agent]] = []  # agents whose links are closed, and when they are killed
        self.notes: deque[tuple[str, str, str]] = deque()  # from threads
        self.closed = False
        self.heartbeat = Heartbeat(min(15.0, max(0.2, config["lost_after"] / 8.0)))
        self._handlers: dict[type, Callable[[Member, Any], None]] = {
            frames.Hello: self._on_hello,
            frames.Ready: self.admission.ready,
            frames.Cleared: self.admission.cleared,
            frames.Done: self._on_done,
            frames.Lost: self._on_lost,
            frames.Recalled: lambda member, message: post(m.Recalled(member.name, message.keys)),
            frames.Told: lambda member, message: post(m.AgentTold(member.name, message.signal)),
            frames.Useless: self._on_useless,
            frames.Note: self._on_note,
            frames.Beat: self._on_beat,
            frames.Outlive: self.outliving.take,
        }

    # starting and ending

    def add_context(self, joined: m.ContextJoined, requests: list[EngineRequest], steps: Steps | None = None) -> None:
        """Raises Refused when no engine of it can be had."""
        context = joined.context
        if steps is not None:
            self.steps[context] = steps
        self.post(joined._replace(expected=len(requests)))
        self.starting.add_all([self._member(context, request) for request in requests])
        self.starting.step()

    def _member(self, context: str, request: EngineRequest) -> Member:
        """An engine that there is to be."""
        self.admission.expected += 1
        return Member(context, request, self.admission.expected - 1, self.prefix)

    def _start(self, wanted: Member) -> None:
        """`wanted`: the try before this one, if there was one."""
        member = wanted.again()
        self.seats[member.name] = (member.context, member.request)
        steps, visit = self.steps.get(member.context), self.visits.get(member.context)
        try:
            member.start(self.held_fd, self.ssh, lambda text: self._note_later(member.request.host, text), steps, visit)
        except OSError as error:
            self._unreachable(member, f"its agent cannot be started: {error}", permanent=isinstance(error, FileNotFoundError))
            return
        self.members[member.name] = member
        self.selector.register(member.agent.link.read_fd, selectors.EVENT_READ, lambda: self._readable(member))
        self._write_later(member)

    def _note_later(self, host: str, text: str) -> None:
        """Called in threads. A sentence about another host (a jump host) begins with its name."""
        own = text.removeprefix(f"{host}: ")
        self.notes.append(("warning", own, host if own != text else ""))

    def _drop(self, member: Member) -> None:
        self.members.pop(member.name, None)
        self._hang_up(member)
        member.tidy_log()

    def _hang_up(self, member: Member) -> None:
        if member.agent.link.closed:
            return
        for fd in (member.agent.link.read_fd, member.agent.link.write_fd):
            with contextlib.suppress(KeyError, ValueError):
                self.selector.unregister(fd)
        self.heartbeat.end(member.agent.link)
        member.agent.link.close()

    def _closed(self, member: Member, why: str) -> None:
        """Its link has ended. A program that was between may know why, and whether the agent lives on, only when it has ended, too."""
        agent = member.agent
        if agent.settled:
            self._gone(member, why)
            return
        member.parting = True
        self._hang_up(member)

        def settle() -> None:
            agent.settle()
            self.mail.post(lambda: self._gone(member, why))

        threads.start_or_do(settle, f"end of {member.name}")

    def _gone(self, member: Member, why: str) -> None:
        if self.members.get(member.name) is not member:
            return  # it was given up meanwhile
        agent = member.agent
        said = member.why or agent.failure or ("" if member.joined else last_words(member.log, member.log_start))
        said = said or ("" if member.joined or agent.link.echoed else agent.link.noise)
        permanent = bool(member.why) or agent.permanent or agent.link.echoed
        lives_on = agent.lives_on
        self._drop(member)
        self.ending.append((time.monotonic() + 2.0, agent))
        if self._is_deserted(member):
            self.context_gone(member.context, why)
        if member.available:
            if lives_on:
                member.lost_for_good = permanent and member.request.reach == "slurm"
                what = "SLURM has lost this node" if member.lost_for_good else (said or why).removesuffix(".")
                self.note("warning", f"{what}; what it ran runs elsewhere when it has been silent for long enough", member.request.host)
                if member.lost_for_good:
                    self.set_apart.add((member.context, member.request.host))
                self.survivors.lost(member.place, member.heard)
            self.on_left(member)
            why = f"{why} ({said})" if said else why
            self.post(m.LinkClosed(member.name, why, member.heard if lives_on else None, agent.died and not lives_on))
        else:
            self.admission.gone(member)
            if not said and not member.joined and member.request.reach in ("ssh", "relay"):
                said = silent_end(agent, member.request.address, self.ssh if member.request.reach == "ssh" else "")
            self._unreachable(member, frames.sentence(said).removeprefix("taskrun: ") if said else why, permanent=permanent)

    def _unreachable(self, member: Member, why: str, *, permanent: bool) -> None:
        """It could not be had, this time. Raises Refused when the run cannot do without."""
        member.tidy_log()
        if self._is_deserted(member):
            return
        host = member.request.host
        again = f"{why.removesuffix('.')}; it is tried again"
        member.tries += 1
        first = member.tries == 1
        slurm = member.request.reach == "slurm"
        if member.replaces and not (permanent and slurm):
            if first:
                self.note("info" if slurm else "warning", again, host)
                self.post(m.EngineMissing(member.context, host, why))
        elif permanent or member.tries >= TRIES:
            self.missing.append(f"{host}: {why}")
            self._is_missing(member, why)
            alone = not self.admission.had_one and not self.starting and not any(each is not member for each in self.members.values())
            if (self.admission.require_all or alone) and member.request.reach != "relay":
                raise Refused(self.missing[-1] if alone else f"{self.missing[-1]} (--require-all)")  # the others have been told
            self.note("info" if member.replaces else "error", why, host)  # that the node is lost was said
            return
        elif first:
            self.note("warning", again, host)
        self.starting.add(member, min(PAUSE_MOST, 2.0 ** (member.tries - 1)))

    def _is_deserted(self, member: Member) -> bool:
        """Who brought its context has gone."""
        visit = self.visits.get(member.context)
        return visit is not None and visit.gone

    def context_gone(self, context: str, why: str) -> None:
        """No engine of it will come any more. Those that are there lose their links by themselves."""
        self.post(m.ContextGone(context, why))
        self.starting.drop(context)

    def has_any(self, context: str) -> bool:
        """There is an engine of it, or one that is to be."""
        return any(each.context == context for each in [*self.members.values(), *(member for _, member in self.starting)])

    def check(self) -> None:
        """Now and then: agents that do not get ready, bytes that wait to be written, hosts that are to be tried again. Raises Refused."""
        now = time.monotonic()
        while self.notes:
            self.note(*self.notes.popleft())
        for each in [each for each in self.ending if each[1].ended() or (each[0] < now and not each[1].held)]:
            self.ending.remove(each)
            each[1].kill()
        if self.survivors.wait_is_over(now):
            self.admission.look_again()
        self.starting.step()
        for member in [each for each in self.members.values() if not each.parting]:
            # one that is ready may still have to end what an earlier one left, and beats meanwhile
            patience = READY_SECONDS if member.joined or member.here else REACH_SECONDS
            on_its_way = not member.available and member not in self.admission.complete
            if on_its_way and now - (member.heard if member.ready else member.since) > patience:
                member.agent.kill()
                what = "the agent was not ready after" if member.joined else "nothing was heard for"
                self._closed(member, f"{what} {patience:.0f} s")
            else:
                if member.arrival is not None and not member.joined and (said := member.arrival.step()):
                    self.note("warning", said, member.request.host)
                self._write_later(member)

    def absent(self, seconds: float) -> None:
        """Shift all times by those seconds, in which this process did not run: no agent was silent or late."""
        for member in self.members.values():
            member.since += seconds
            member.heard += seconds
        self.ending = [(due + seconds, agent) for due, agent in self.ending]

    def _write_later(self, member: Member) -> None:
        """What its link does not take now, as soon as it does."""
        link = member.agent.link
        if not link.waiting:
            return

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
        self.heartbeat.close()
        self.starting.close()
        self.mail.close()
        agents = [agent for _, agent in self.ending]
        members = list(self.members.values())
        for member in members:
            self._drop(member)
            if member.joined or member.here:
                agents.append(member.agent)
            else:
                member.agent.kill()
        killed = end_agents(agents, END_SECONDS)
        for member in members:
            if member.joined and not member.here and (member.agent in killed or member.agent.lives_on):
                self.survivors.lost(member.place, member.heard)
        if not keep_logs:
            for name in self.seats:
                with contextlib.suppress(OSError):
                    log_path(self.prefix, name).unlink()
        for folder in self.admission.local:
            local.remove_folder(folder)
        while self.notes:
            self.note(*self.notes.popleft())

    def running(self, engines: Mapping[str, Engine]) -> int:
        """Return how many attempts run on these. One that ends results all the time does not say what its slots are at."""
        count = 0
        quiet = time.monotonic() - QUIET_SECONDS
        for engine in engines.values():
            running = min(len(engine.live), engine.slots)
            member = self.members.get(engine.name)
            if running and member is not None and member.worked < quiet:
                running = min(running, sum(attempt.started for attempt in engine.live.values()))
            count += running
        return count

    def unused(self) -> list[str]:
        """Return the hosts of which nothing has come yet, and nothing was said."""
        waiting = [*self.members.values(), *(member for _, member in self.starting)]
        return [each.request.host for each in waiting if not (each.here or each.available or each.joined or each.replaces or each.tries)]

    def may_live_on(self) -> dict[str, float]:
        """Return host -> epoch seconds until which something of this run, or of those it carries on, may live there, once all is closed."""
        now = time.monotonic()
        return {address: time.time() + end - now for address, end in self.survivors.ends(now).items()}

    def _join(self, member: Member) -> None:
        self.on_joined(member)
        member.available = True
        member.tries = 0
        boot = str(member.facts.get("boot", ""))
        self.post(m.EngineJoined(member.name, member.context, member.rank, member.request.slots, member.request.host, boot))

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
            else:
                self.note("warning", why, member.request.host)
            self._closed(member, why)
            return
        if received and member.joined:
            self.post(m.Heard(member.name))

    def _on_hello(self, member: Member, message: frames.Hello) -> None:
        self.admission.hello(member, message)
        self.heartbeat.begin(member.agent.link)

    def _on_done(self, member: Member, message: frames.Done) -> None:
        if message.taken:
            self.post(m.Taken(member.name, message.taken))
        if message.results:
            member.worked = time.monotonic()
            self.post(m.Results(member.name, member.by_our_clock(message.results)))

    def _on_lost(self, member: Member, message: frames.Lost) -> None:
        keys = self.admission.lost(member, message.keys)
        if keys:
            self.post(m.SlotsLost(member.name, keys))

    def _on_useless(self, member: Member, message: frames.Useless) -> None:
        if not member.available:  # it says why, and goes
            member.why = message.why
            return
        self._quote(member, "error", message.why)
        self.post(m.EngineUseless(member.name, message.why))

    def _on_note(self, member: Member, message: frames.Note) -> None:
        self._quote(member, message.level, message.text)

    def _quote(self, member: Member, level: str, text: str) -> None:
        """Say what an agent says, as long as that is not without end."""
        member.quoted += 1
        if member.quoted <= QUOTES_MOST:
            self.note(level, text, member.request.host)
        elif member.quoted == QUOTES_MOST + 1:
            self.note("warning", f"its agent has said {QUOTES_MOST} things, and the rest is left out", member.request.host)

    @staticmethod
    def _on_beat(member: Member, message: frames.Beat) -> None:
        member.beat = message

    # actions out

    def assign(self, action: m.Assign) -> None:
        for frame in orders.tasks(action):
            self._send(action.engine, frame)

    def recall(self, action: m.Recall) -> None:
        self._send(action.engine, orders.recall(action))

    def end(self, action: m.End) -> None:
        self._send(action.engine, orders.end(action))

    def leave(self, action: m.Leave) -> None:
        self._send(action.engine, orders.leave())
        self.on_changed("left", action.engine, "")

    def give_up(self, action: m.GiveUp) -> None:
        self.on_changed("lost", action.engine, action.why)
        member = self.members.get(action.engine)
        if member is not None:
            self.note("warning", f"the engine is lost: {action.why}", member.request.host)
            self.survivors.lost(member.place, member.heard)
            self._drop(member)
            self.on_left(member)
            member.agent.kill()

    def refuse(self, member: Member, why: str) -> None:
        """It is there and of no use to this run."""
        self.note("error", why, member.request.host)
        self._drop(member)
        self.ending.append((time.monotonic() + END_SECONDS, member.agent))  # it leaves nothing there
        self._is_missing(member, why)

    def _is_missing(self, member: Member, why: str) -> None:
        visit = self.visits.get(member.context)
        if visit is not None:
            visit.problem = f"{member.request.host}: {why}"
        self.post(m.EngineMissing(member.context, member.request.host, why))

    def replace(self, action: m.Replace) -> None:
        """A lost engine: a new agent there, which first makes sure that nothing of the old one's tasks is left."""
        context, request = self.seats[action.engine]
        if (context, request.host) in self.set_apart:
            self.post(m.EngineMissing(context, request.host, "it is lost for good"))
            return
        level = "info" if request.reach == "slurm" else "warning"  # the person needs one sentence, and had it
        self.note(level, "a new agent takes the place of the lost one", request.host)
        member = self._member(context, request)
        member.replaces, member.gone_keys = True, action.keys
        self.starting.add(member)
        self.starting.step()

    def set_aside(self, action: m.SetAside) -> None:
        self.note("error", f"{action.failures} engines were lost there in a row, and it is set aside", action.node)

    def _send(self, engine: str, message: dict[str, Any]) -> None:
        member = self.members.get(engine)
        if member is not None:
            self._tell(member, message)

    def _tell(self, member: Member, message: dict[str, Any]) -> None:
        member.agent.link.send(message)
        self._write_later(member)
