"""What the driver's loop does about guests: contexts that attach and leave, engines sent away, how the run is."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskrun.driver import held
from taskrun.driver.crew import Crew
from taskrun.driver.lineage import host_key
from taskrun.driver.picture import Picture
from taskrun.engines import attach_frames as at
from taskrun.engines.request import EngineRequest
from taskrun.errors import ExitCode, RecordsFailed
from taskrun.scheduling import messages as m
from taskrun.scheduling.engine import Context
from taskrun.scheduling.scheduler import Scheduler
from taskrun.status.events import EventsWriter

if TYPE_CHECKING:
    from taskrun.driver.guest import Guest
    from taskrun.engines.relayed import RelayedAgent

NAMES_SHOWN = 12
CONTEXTS_MOST = 1000  # that may be attached in the course of a run
NAMES_MOST = 1 << 22  # characters of the addresses of their hosts: all stand in the sidecar
DESCRIPTORS_EACH = 7  # of an attached engine: two ends of a socket, each for reading and for writing; and of a session
DESCRIPTORS_OWN = 6  # of any other: with paramiko, also its connection and its log
DESCRIPTORS_KEPT = 400  # for all else


class Visit:
    """A context that a guest has brought."""

    def __init__(self, guest: Guest, wanted: at.Join, given: dict[str, Any]) -> None:
        """`given`: what the sidecar says of it."""
        self.guest = guest
        self.given = given
        self.workdir = wanted.workdir
        self.last = ""  # what became of an engine of it: `left` or `lost`
        self.problem = ""  # why a host of it cannot be used
        self._env = wanted.env
        self.size = len(wanted.offers)
        self._offers = {each.address: each for each in wanted.offers}

    @property
    def gone(self) -> bool:
        return self.guest.gone

    def start(self, request: EngineRequest) -> RelayedAgent:
        """Raises OSError."""
        return self.guest.start(request)

    def shares(self, request: EngineRequest) -> dict[str, Any]:
        """What its slots share of that node."""
        return self._offers[request.address].share

    def variables(self, request: EngineRequest) -> dict[str, str]:
        """What its tasks have in their environment there."""
        return {**self._env, **self._offers[request.address].env}


class Visits:
    """All of them. Whatever a guest sends, only its own context can come to harm.

    What is posted for the scheduler it takes later in the same turn of the loop: a context that has come is in `crew.visits` first.
    """

    def __init__(
        self,
        crew: Crew,
        scheduler: Scheduler,
        picture: Picture,
        events: EventsWriter,
        said: Callable[[str], None],
        given: Callable[[dict[str, Any]], None],
        task_time: float | None = None,
    ) -> None:
        """`said`: takes a sentence for the person; `given`: what there is to know about a context, new or known, for the sidecar.

        `task_time`: seconds a task takes, where the person said so.
        """
        self.crew = crew
        self.scheduler = scheduler
        self.picture = picture
        self.events = events
        self.said = said
        self.given = given
        self.task_time = task_time
        self.needed: Callable[[str], bool] = lambda _: False  # a context whose engines have left: outputs are still to be fetched
        self._count = 0
        self._names = 0  # characters of addresses, of all that came
        self._draining: set[str] = set()  # engines and contexts of which that is told

    # guests

    def join(self, guest: Guest, wanted: at.Join) -> None:
        self._try(guest, lambda: self._join(guest, wanted))

    def ends(self, guest: Guest, when: at.Ends) -> None:
        if guest.context:
            self.crew.post(m.ContextEnds(guest.context, time.monotonic() + when.ends_in))

    def detach(self, guest: Guest, wanted: at.Detach) -> None:
        self._try(guest, lambda: self._detach(guest, wanted))

    def look(self, guest: Guest) -> None:
        self._try(guest, lambda: guest.tell(at.Seen(self.picture.show())))

    def gone(self, guest: Guest, why: str) -> None:
        self._try(guest, lambda: self._gone(guest, why))

    def _gone(self, guest: Guest, why: str) -> None:
        if guest.context in self.crew.visits:
            context = self.scheduler.contexts.get(guest.context)
            engines = context is not None and context.engines
            self._tell("context", "lost" if engines else "left", context=guest.context, why=why)
            if engines:
                self.said(f"context {guest.context}: who attached it has gone ({why})")
            self.crew.context_gone(guest.context, why)

    def _try(self, guest: Guest, act: Callable[[], None]) -> None:
        try:
            act()
        except RecordsFailed:
            raise
        except Exception as error:  # noqa: BLE001 - the run is worth more than a guest
            guest.log("ERROR", f"attach: {guest.peer}: {type(error).__name__}: {error}")
            guest.dismiss(at.Refusal(f"a mistake of the run's: {type(error).__name__}: {error}"))

    def _join(self, guest: Guest, wanted: at.Join) -> None:
        crew = self.crew
        if crew.admission.require_all and not crew.admission.had_one and (crew.members or crew.starting):
            guest.dismiss(at.Refusal("the run still waits for its own hosts (--require-all): attach when it has begun"))
            return
        if self.scheduler.stop_why:
            guest.dismiss(at.Refusal(f"the run is stopping: {self.scheduler.stop_why}"))
            return
        names = sum(len(each.address) for each in wanted.offers)
        why = self._too_much(len(wanted.offers), names)
        if why:
            guest.dismiss(at.Refusal(why))
            return
        self._names += names
        context = self._name(wanted.label)
        guest.context = context
        guest.tell(at.Joined(context))
        requests = [EngineRequest(each.host, each.cores, each.slots, each.cores_per_task, "relay", each.address) for each in wanted.offers]
        hosts = {each.address: each.cores for each in wanted.offers}
        slots = sum(each.slots for each in requests)
        self._tell("context", "joined", context=context, hosts=hosts, guest=guest.peer)
        self.said(f"context {context} is attached from {guest.peer}: {slots} slot{'s'[: slots != 1]} on {len(requests)} "
                  f"host{'s'[: len(requests) != 1]}")  # fmt: skip
        here = guest.here and wanted.space == held.space() != ""  # else it came through a tunnel, and lives where no name of it is seen
        given = {"kind": "attached", "label": context, "hosts": hosts, "limit": wanted.limit, "from": guest.peer, held.USER: wanted.user,
                 "here": here,
                 "workdir": wanted.workdir}  # fmt: skip
        self.given(given)
        crew.visits[context] = Visit(guest, wanted, given)
        end = time.monotonic() + wanted.ends_in if wanted.ends_in >= 0 else None
        crew.add_context(m.ContextJoined(context, wanted.limit, end=end, task_time=self.task_time, one_fate=end is not None), requests)

    def _too_much(self, engines: int, names: int) -> str:
        """Return why the run cannot take so many more, '' if it can. `names`: characters of their addresses."""
        if self._names + names > NAMES_MOST:
            return "the contexts that were attached to this run have named all the hosts that it can keep a record of"
        if len(self.crew.visits) >= CONTEXTS_MOST:
            return f"{CONTEXTS_MOST} contexts have been attached to this run, and it takes no more"
        have = engines + sum(visit.size for visit in self.crew.visits.values() if not visit.gone)
        own = sum(member.context not in self.crew.visits for member in self.crew.members.values())
        kept = DESCRIPTORS_KEPT + DESCRIPTORS_OWN * own
        room = max(0, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - kept) // DESCRIPTORS_EACH
        return f"the run can hold {room} attached engines (ulimit -n), and these would make {have}" if have > room else ""

    def _name(self, label: str) -> str:
        taken = {*self.scheduler.contexts, *self.crew.visits}
        if not label:
            while (name := f"SSH{self._count}") in taken:
                self._count += 1
            return name
        name = label
        number = 1
        while name in taken:
            number += 1
            name = f"{label}.{number}"
        return name

    def _detach(self, guest: Guest, wanted: at.Detach) -> None:
        contexts, engines = self.scheduler.contexts, self.scheduler.engines
        name = wanted.name
        if not name:
            if guest.context:
                self.crew.post(m.Detach(guest.context, wanted.now))
                self._draining_now("context", guest.context)
            return
        if name not in contexts and name not in engines:
            guest.tell(at.Refusal(_unknown(name, [each for each in contexts if contexts[each].promising], list(engines))))
            return
        self.crew.post(m.Detach(name, wanted.now))
        if name in contexts:
            self._draining_now("context", name)
        for each in engines.values():
            if name in (each.name, each.context.name):
                self._draining_now("engine", each.name)
        self._tell("told", "", how="detach now" if wanted.now else "detach", name=name)
        self.said(f"{name} is detached {'at once' if wanted.now else 'after what it runs'}, as {guest.peer} asked")
        running = sum(min(len(each.live), each.slots) for each in engines.values() if name in (each.name, each.context.name))
        after = "what it runs is ended and runs again elsewhere" if wanted.now else f"it ends what it has ({running}), then it leaves"
        guest.tell(at.Done(f"{name} is detached: {after}"))

    # now and then

    def tick(self) -> None:
        """Every second: what has begun to leave, and guests whose context has nothing more to do."""
        for engine in self.scheduler.engines.values():
            if engine.phase in ("drain", "stop"):
                self._draining_now("engine", engine.name)
        for name, context in self.scheduler.contexts.items():
            if (context.detached or context.spent) and context.engines:
                self._draining_now("context", name)
        for name, visit in list(self.crew.visits.items()):
            if name not in self.scheduler.contexts:
                continue
            context = self.scheduler.contexts[name]
            if not visit.gone and not context.promising and not self.crew.has_any(name):
                if self.needed(name):
                    continue
                over = _why_over(context, visit)
                self._tell("context", "left", context=name, why=over.why)
                visit.guest.dismiss(over)
                self.crew.context_gone(name, over.why)
            elif visit.gone and not context.engines and "left" not in visit.given:
                self._look_at_end(name, visit)

    def _look_at_end(self, name: str, visit: Visit) -> None:
        """When nothing of it can live any more, a resume need not wait for that."""
        if not self.crew.has_any(name) and not self._hosts(name, visit) & self.crew.survivors.ends(time.monotonic()).keys():
            visit.given["left"] = time.time()
            self.given(visit.given)

    @staticmethod
    def _hosts(name: str, visit: Visit) -> set[str]:
        return {host_key("attached", name, address) for address in visit.given["hosts"]}

    def _draining_now(self, kind: str, name: str) -> None:
        """Said once."""
        if name not in self._draining:
            self._draining.add(name)
            self._tell(kind, "draining", **{kind: name})

    def engine_changed(self, what: str, engine: str, why: str) -> None:
        """It has left or is lost."""
        self._draining.discard(engine)
        visit = self.crew.visits.get(self.crew.seats[engine][0])
        if visit is not None:
            visit.last = what
        self._tell("engine", what, engine=engine, **({"why": why} if why else {}))

    def close(self, why: str) -> None:
        """The run is over."""
        for name, visit in self.crew.visits.items():
            if not visit.gone:
                context = self.scheduler.contexts.get(name)
                over = at.Over(why, ExitCode.OK) if context is None or not context.detached else _why_over(context, visit)
                self._tell("context", "left", context=name, why=over.why)
                visit.guest.dismiss(over)

    def _tell(self, kind: str, what: str, **fields: object) -> None:
        self.events.event(kind, time.time(), **({"what": what} if what else {}), **fields)


def _why_over(context: Context, visit: Visit) -> at.Over:
    if context.detached:
        return at.Over("it was detached", ExitCode.OK)
    if context.limited and context.spent:
        return at.Over("its limit is reached", ExitCode.OK)
    if context.ends:
        return at.Over("its allocation ends", ExitCode.OK)
    if context.is_unfit:
        return at.Over("a START CHECK has failed on its hosts", ExitCode.STOPPED)
    if visit.last == "left":
        return at.Over("its engines have left", ExitCode.OK)
    if visit.last:
        return at.Over("its engines are lost", ExitCode.STOPPED)
    return at.Over(f"no host of it can be used{f' ({visit.problem[:1000]})' if visit.problem else ''}", ExitCode.REFUSED)


def _unknown(name: str, contexts: list[str], engines: list[str]) -> str:
    """Why a name cannot be detached, and what could."""
    from difflib import get_close_matches

    near = get_close_matches(name, [*contexts, *engines], 1, 0.5)
    listed = [f"contexts: {', '.join(contexts[:NAMES_SHOWN]) or 'none'}", f"engines: {', '.join(engines[:NAMES_SHOWN]) or 'none'}"]
    more = len(engines) - NAMES_SHOWN
    return (
        f"`{name}` is no engine or context of this run{f'; did you mean {near[0]}?' if near else ''} "
        f"({'; '.join(listed)}{f' and {more} more' if more > 0 else ''})"
    )
