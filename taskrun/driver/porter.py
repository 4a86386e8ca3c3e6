"""Between scheduler and crew where data is staged.

An attempt reaches its agent when its inputs are there, its result the scheduler when its outputs are delivered, and an engine joins when it
has what every engine is to have. Without a stager all passes straight through.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from taskrun import threads
from taskrun.driver.crew import Crew
from taskrun.driver.member import Member
from taskrun.errors import Refused
from taskrun.model import Result, Task
from taskrun.scheduling import messages as m

if TYPE_CHECKING:
    from taskrun.driver.data import Data
    from taskrun.driver.staging import Stager


class Porter:
    def __init__(self, post: Callable[[m.Event], None]) -> None:
        self.crew: Crew  # set by who makes it
        self.stager: Stager | None = None  # once there is something to stage
        self.data: Data | None = None  # the same
        self.leavers: list[Member] = []  # engines that have left, their connections kept: outputs of the run are still to be looked for
        self.free: Callable[[Member], None] = lambda _: None  # a node that is of no more use to the run
        self.cpu_seconds = 0.0
        self.peak_memory = 0  # bytes
        self._post = post
        self._apart: dict[str, Member] = {}  # engines that do not share the driver's folder
        self._had_one = False  # an engine had all it needs
        self._preparing: set[str] = set()
        self._fetching: dict[tuple[str, m.Key], Task] = {}
        self._running: dict[tuple[str, m.Key], Task] = {}  # those with outputs
        self._shipping: dict[tuple[str, m.Key], Result] = {}

    # what the crew says

    def post(self, event: m.Event) -> None:
        if self.stager is None:
            self._post(event)
        elif isinstance(event, m.Results):
            self._results(event)
        elif isinstance(event, m.EngineJoined):
            self._joined(event)
        elif isinstance(event, m.LinkClosed) and event.engine in self._preparing:
            self._preparing.discard(event.engine)
            context, request = self.crew.seats[event.engine]
            self._post(m.EngineMissing(context, request.host, event.why))
        else:
            if isinstance(event, m.LinkClosed):
                self._forget(event.engine)
            elif isinstance(event, m.SlotsLost):
                for key in event.keys:
                    self._running.pop((event.engine, key), None)
            self._post(event)

    def _joined(self, event: m.EngineJoined) -> None:
        assert self.stager is not None
        member = self.crew.members[event.engine]
        stager = self.stager
        self._preparing.add(event.engine)

        def ready(problem: str) -> None:
            if event.engine not in self._preparing:
                return
            self._preparing.discard(event.engine)
            if problem:
                self._refuse(member, problem)
            else:
                self._had_one = True
                self._post(event)

        def prepare() -> None:
            stager.prepare(member, lambda why: ready(f"what every engine is to have could not be fetched: {why}" if why else ""))

        if member.shared:
            prepare()
            return
        stager.places.admit(member)

        def look() -> None:
            why = stager.places.why_not(member)
            if not why and self.data is not None and (problem := self.data.look_before(stager.places.name(member))):
                self.crew.mail.post(lambda: stager.note("warning", f"--clean: {member.request.host}: {problem}"))
            self.crew.mail.post(lambda: looked(why))

        def looked(why: str) -> None:
            assert self.data is not None
            over = event.engine not in self._preparing or self.data.delivering  # it has gone, or the run is about to
            if why or over:
                stager.places.expel(member)
            if why and not over:
                ready(f"no data can be moved there: {why}")
            elif not over:
                self.data.admit_engine(member)
                self._apart[event.engine] = member
                prepare()

        threads.start_or_do(look, f"data of {member.name}")

    def _refuse(self, member: Member, why: str) -> None:
        """Raises Refused when it was the only one there is: nothing has run. Contexts that attach come and go."""
        self.crew.refuse(member, why)
        if member.request.reach != "relay" and not self._had_one and not self.crew.members and not self.crew.starting:
            raise Refused(f"{member.request.host}: {why}")

    def _results(self, event: m.Results) -> None:
        passed = []
        for result in event.results:
            self.cpu_seconds += result.utime + result.stime
            self.peak_memory = max(self.peak_memory, result.maxrss)
            task = self._running.pop((event.engine, result[:3]), None)
            member = self.crew.members.get(event.engine)
            if task is None or result.cause != "ok" or member is None:
                passed.append(result)
            else:
                self._ship(member, task, result)
        if passed:
            self._post(m.Results(event.engine, passed))

    def _ship(self, member: Member, task: Task, result: Result) -> None:
        from taskrun.driver.staging import FAILED

        assert self.stager is not None
        where = (member.name, result[:3])
        self._shipping[where] = result

        def done(problem: str) -> None:
            if self._shipping.pop(where, None) is None:
                return
            ended = result
            if problem:
                reason = problem.encode("utf-8", "surrogateescape")
                ended = result._replace(cause="stage-out", code=FAILED, err=reason, err_bytes=len(reason), tail=b"")
            self._post(m.Results(member.name, [ended]))

        self.stager.ship(member, result[:3], task, done)

    def _forget(self, engine: str) -> None:
        """Its link is closed: the scheduler knows what that means for its attempts."""
        assert self.stager is not None
        for each in [each for each in (*self._fetching, *self._shipping) if each[0] == engine]:
            self.stager.cancel(*each)
            self._fetching.pop(each, None)
            self._shipping.pop(each, None)
        member = self._apart.pop(engine, None)
        if member is None:
            return
        assert self.data is not None
        place = self.stager.places.name(member)
        if member in self.leavers:
            self.data.outputs.end(place)
        else:
            self.data.outputs.lose(place)
            self.stager.places.dismiss(member)

    # what the scheduler wants

    def assign(self, action: m.Assign) -> None:
        if self.stager is None:
            self.crew.assign(action)
            return
        direct = []
        member = self.crew.members.get(action.engine)
        for key, task in action.attempts:
            staging = task.staging if isinstance(task, Task) else ()
            if not staging or member is None:
                direct.append((key, task))
                continue
            assert isinstance(task, Task)
            if any(each.way == "out" for each in staging):
                self._running[action.engine, key] = task
            if any(each.way == "in" for each in staging):
                self._fetch(member, key, task)
            else:
                direct.append((key, task))
        if direct:
            self.crew.assign(m.Assign(action.engine, direct))

    def _fetch(self, member: Member, key: m.Key, task: Task) -> None:
        from taskrun.driver.staging import failed_result

        assert self.stager is not None
        where = (member.name, key)
        self._fetching[where] = task
        begun = time.time()

        def start() -> None:
            if self._fetching.pop(where, None) is not None:
                self.crew.assign(m.Assign(member.name, [(key, task)]))

        def fail(why: str) -> None:
            if self._fetching.pop(where, None) is not None:
                self._running.pop(where, None)
                self._post(m.Results(member.name, [failed_result(key, why, begun)]))

        self.stager.fetch(member, key, task, start, fail)

    def recall(self, action: m.Recall) -> None:
        given = self._give_back(action.engine, action.count)
        if len(given) < action.count or not given:
            self.crew.recall(m.Recall(action.engine, action.count - len(given)))

    def _give_back(self, engine: str, count: int) -> list[m.Key]:
        """Attempts that wait for their inputs, the last first."""
        mine = [where for where in reversed(self._fetching) if where[0] == engine][:count]
        for where in mine:
            assert self.stager is not None
            self.stager.cancel(*where)
            del self._fetching[where]
            self._running.pop(where, None)
        keys = [key for _, key in mine]
        if keys:
            self._post(m.Recalled(engine, keys))
        return keys

    def end(self, action: m.End) -> None:
        self._give_back(action.engine, len(self._fetching))
        for where in [where for where in self._shipping if where[0] == action.engine]:
            assert self.stager is not None
            self.stager.cancel(*where)
            result = self._shipping.pop(where)
            self._post(m.Results(action.engine, [result._replace(cause=action.how)]))
        self.crew.end(action)

    def leave(self, action: m.Leave) -> None:
        member = self.crew.members.get(action.engine)
        if self.stager is not None and member is not None and not member.shared:
            self.stager.places.hold(member)
            self.leavers.append(member)
        self.crew.leave(action)

    def let_go(self, place: str) -> None:
        """All that was made there is delivered."""
        assert self.stager is not None
        for member in [each for each in self.leavers if self.stager.places.name(each) == place]:
            self.leavers.remove(member)
            self.stager.places.dismiss(member)
            self.stager.places.let_go(member)
            self.free(member)

    def left(self, member: Member) -> None:
        """Its link is closed. Its node is free when nothing is to be fetched from there any more; of one that is lost, never."""
        if self.stager is None or member.shared:
            self.free(member)

    def needs(self, context: str) -> bool:
        """Outputs are still to be fetched from an attached context whose engines have left."""
        return self.data is not None and self.data.needs(context)

    def let_all_go(self) -> None:
        while self.leavers and self.stager is not None:
            self.stager.places.let_go(self.leavers.pop())

    def give_up(self, action: m.GiveUp) -> None:
        if self.stager is not None:
            self._forget(action.engine)
        self.crew.give_up(action)

    def replace(self, action: m.Replace) -> None:
        self.crew.replace(action)

    def set_aside(self, action: m.SetAside) -> None:
        self.crew.set_aside(action)
