"""The data of a run: fetched before tasks start, delivered when they have ended. Between the plan and the engines; the mover does the work.

RUN stage-ins hold back the tasks below them (`admit`), ENGINE ones the engine, TASK ones the attempt. What tasks make is looked for as the
run goes (`outputs`), and once more at its end, which waits for it. Everything here runs in the driver's loop, but for the
mover's threads, which only post.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from taskrun.driver.member import Member
from taskrun.driver.places import Places
from taskrun.encryption.gpg import Gpg
from taskrun.encryption.rules import Wish, clear_name, encrypted_name, is_encrypted
from taskrun.errors import Refused
from taskrun.model import Encryption, Planned, Result, Staging, Supplied, Task
from taskrun.scheduling.messages import Key
from taskrun.staging import locations
from taskrun.staging.locations import Location
from taskrun.staging.mover import Delayed, Delivered, Event, Failure, Mover, Staged
from taskrun.staging.transfers import Delivery, Renamed, Request, Rule, Tally

FAILED = 74  # the return code of a task whose data could not be moved: EX_IOERR
Done = Callable[[Staged], None]


class Attempt(NamedTuple):
    """One attempt whose data is being moved."""

    engine: str
    key: Key
    requests: set[int]  # that are under way
    problems: list[str]


class Stager:
    """`post_transfer` records an event: fields of a `transfer`. `note` says a sentence (level, text)."""

    def __init__(
        self,
        places: Places,
        selector: selectors.BaseSelector,
        note: Callable[[str, str], None],
        post_transfer: Callable[..., None],
        variables: dict[str, str],
        *,
        transfers: int = 4,
        workfactor: float = 2.0,
        passphrase_file: Path | None = None,
        known: list[Delivery] | None = None,
    ) -> None:
        self.places = places
        self.note = note
        self.post_transfer = post_transfer
        self.variables = variables
        self.workfactor = workfactor
        self.tally = Tally()
        self.inputs: list[Delivery] = []
        self.outputs: list[Delivery] = []
        self.failed: list[str] = []  # what a RUN stage-in or stage-out could not move
        self.stop: Callable[[str], None] = lambda _: None  # called when the tasks below cannot start
        self._passphrase_file = passphrase_file
        self._gpg: Gpg | None = None
        self._rules: dict[tuple[str, Encryption | None], Rule] = {}
        self._selector = selector
        self._inbox: deque[Event] = deque()
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        selector.register(self._wake, selectors.EVENT_READ, self._pump)
        self._spool = Path(tempfile.mkdtemp(prefix="taskrun-spool-"))
        self._mover = Mover(places.stores, self._post, self._spool, transfers=transfers, known=known or ())
        self._count = 0
        self._waiting: dict[int, Done] = {}
        self._task_of: dict[int, int | None] = {}
        self._kept: deque[Supplied] = deque()
        self._runs: dict[int, str] = {}  # line of a RUN or ENGINE stage-in: wanted, done, failed
        self.engine_stagings: list[Staging] = []
        self.out_stagings: list[Staging] = []
        self._attempts: dict[tuple[str, Key], Attempt] = {}
        self.idle = False  # nothing is left to run: nothing need be fetched

    # requests

    def _post(self, event: Event) -> None:
        """From the mover's threads."""
        self._inbox.append(event)
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._waker, b"x")

    def _pump(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)
        while self._inbox:
            self._take(self._inbox.popleft())

    def _take(self, event: Event) -> None:
        number = event.request
        assert isinstance(number, int)
        if isinstance(event, Staged):
            done = self._waiting.pop(number, None)
            self._task_of.pop(number, None)
            if done is not None:
                done(event)
        elif isinstance(event, Delivered):
            delivery = event.delivery
            self.post_transfer(id=self._task_of.get(number), cause="ok", **delivery.to_json())
        elif isinstance(event, Failure):
            if event.cause != "cancelled":
                self.post_transfer(
                    id=self._task_of.get(number), cause=event.cause, source=event.source, dest=event.dest, why=event.why, tries=event.tries
                )
        elif isinstance(event, Delayed):
            self.note("info", f"{event.why}; tried again in {event.seconds:.0f} s")
        else:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        """Progress, for the view."""
        from taskrun.staging.mover import Advanced, Found

        if isinstance(event, Found):
            self.tally.found(event.files, event.size)
        elif isinstance(event, Advanced):
            self.tally.advanced(event.more, time.monotonic())

    def request(self, source: Location, dest: Location, rule: Rule, done: Done, task: int | None = None, *, room: bool = False) -> int:
        """`room`: the destination needs --workfactor times the size."""
        self._count += 1
        number = self._count
        self._waiting[number] = done
        self._task_of[number] = task
        self._mover.stage(Request(number, source, dest, rule, self.workfactor if room else 1.0))
        return number

    @property
    def busy(self) -> int:
        """Requests under way."""
        return len(self._waiting)

    def rule(self, staging: Staging) -> Rule:
        """What happens to a file on its way. Raises Refused when a key is not to be had."""
        wanted = (staging.way, staging.encryption)
        if wanted not in self._rules:
            self._rules[wanted] = self._make_rule(*wanted)
        return self._rules[wanted]

    def _make_rule(self, way: str, encryption: Encryption | None) -> Rule:
        wish = Wish(encryption.recipients, encryption.sign or None) if encryption is not None else None
        if way == "out":
            if wish is None:
                return lambda _: None
            change = self.gpg.encryption(wish)
            return lambda name: Renamed(encrypted_name(name), change)

        def decrypted(name: str) -> Renamed | None:
            return Renamed(clear_name(name), self.gpg.decryption(wish)) if is_encrypted(name) else None

        return decrypted

    @property
    def gpg(self) -> Gpg:
        if self._gpg is None:
            self._gpg = Gpg(passphrase_file=self._passphrase_file)
        return self._gpg

    # before anything runs

    def check(self, stagings: list[Staging]) -> None:
        """Tries what can be known wrong before the first task: locations, keys, passphrases. Raises Refused."""
        for staging in stagings:
            try:
                source, dest = self.places.of(staging.source), self.places.of(staging.dest)
                for place in (source, dest):
                    if "$" not in place.path:
                        self.places.stores.of(place)
            except Refused as error:
                raise Refused(f"line {staging.line}: {error}") from None
        for encryption in {staging.encryption for staging in stagings if staging.encryption is not None}:
            self.gpg.preflight(Wish(encryption.recipients, encryption.sign or None))
        for staging in stagings:
            self.rule(staging)

    def begin(self, stagings: list[Staging]) -> None:
        """The lines of a regular file: RUN stage-ins begin now, side by side."""
        if self.idle:
            return
        for staging in stagings:
            if staging.scope == "ENGINE":
                self.engine_stagings.append(staging)
            elif staging.scope == "RUN" and staging.way == "in":
                self._fetch_for_run(staging)

    def _fetch_for_run(self, staging: Staging) -> None:
        self._runs[staging.line] = "wanted"

        def done(end: Staged) -> None:
            self.inputs += end.deliveries
            problem = _problem(end, staging)
            if problem:
                self._runs[staging.line] = "failed"
                self.failed.append(problem)
                self.note("error", f"line {staging.line}: {problem}; the tasks below are not started")
                self.stop(f"line {staging.line}: its data could not be fetched")
            else:
                self._runs[staging.line] = "done"

        self.request(self.places.of(staging.source), self.places.of(staging.dest or "./"), self.rule(staging), done, room=True)

    # the plan

    def admit(self, items: list[Supplied]) -> list[Planned]:
        """What may be handed on: the items up to the first line whose data is not there yet. The rest is kept."""
        kept = self._kept
        kept.extend(items)
        passed: list[Planned] = []
        while kept:
            item = kept[0]
            if isinstance(item, Staging):
                if not self._pass(item):
                    break
                kept.popleft()
            else:
                passed.append(item)
                kept.popleft()
        return passed

    def _pass(self, staging: Staging) -> bool:
        if staging.way == "out":
            self.out_stagings.append(staging)
            return True
        if staging.scope == "ENGINE":
            if staging not in self.engine_stagings:  # of a stream
                self.engine_stagings.append(staging)
            return True
        if self.idle:
            return True
        if staging.line not in self._runs:
            self._fetch_for_run(staging)
        return self._runs[staging.line] == "done"

    @property
    def waits(self) -> bool:
        """The next item of the plan waits for its data."""
        first = self._kept[0] if self._kept else None
        return isinstance(first, Staging) and self._runs.get(first.line, "wanted") != "done"

    @property
    def keeps(self) -> bool:
        """Items wait here."""
        return bool(self._kept)

    # engines

    def prepare(self, member: Member, ready: Callable[[str], None]) -> None:
        """Fetches what every engine is to have; then `ready`, with why if something could not be had."""
        name = "" if member.shared else member.name
        left: set[int] = set()
        problems: list[str] = []
        for staging in self.engine_stagings:
            if not name and self._runs.get(staging.line) == "done":
                continue

            def done(end: Staged, staging: Staging = staging) -> None:
                self.inputs += end.deliveries
                problem = _problem(end, staging)
                if problem:
                    problems.append(problem)
                elif not name:
                    self._runs[staging.line] = "done"
                left.discard(end.request)
                if not left:
                    ready("; ".join(problems))

            try:
                source, dest = self.places.of(staging.source), self.places.on(name, staging.dest or "./")
                left.add(self.request(source, dest, self.rule(staging), done, room=True))
            except Refused as error:
                problems.append(str(error))
        if not left:
            ready("; ".join(problems))

    # attempts

    def fetch(self, member: Member, key: Key, task: Task, start: Callable[[], None], fail: Callable[[str], None]) -> None:
        """What this attempt needs; then `start`, or `fail` with why."""
        stagings = [each for each in task.staging if each.way == "in"]
        self._move(member, key, task, stagings, lambda why: fail(why) if why else start(), self.inputs)

    def ship(self, member: Member, key: Key, task: Task, done: Callable[[str], None]) -> None:
        """What this attempt has made; then `done`, with why if something could not be delivered."""
        stagings = [each for each in task.staging if each.way == "out"]
        self._move(member, key, task, stagings, done, self.outputs)

    def _move(
        self, member: Member, key: Key, task: Task, stagings: list[Staging], done: Callable[[str], None], kept: list[Delivery]
    ) -> None:
        place = "" if member.shared else member.name
        attempt = self._attempts[member.name, key] = Attempt(member.name, key, set(), [])
        variables = {**self.variables, **task_variables(task, member.rank)}

        def staged(end: Staged, staging: Staging) -> None:
            kept.extend(end.deliveries)
            problem = _problem(end, staging)
            if problem:
                attempt.problems.append(problem)
            attempt.requests.discard(end.request)
            if not attempt.requests and self._attempts.pop((member.name, key), None) is not None:
                done("; ".join(attempt.problems))

        for staging in stagings:
            try:
                source_text = locations.expand(staging.source, variables)
                dest_text = locations.expand(staging.dest, variables) or "./"
                if staging.way == "in":
                    source, dest = self.places.of(source_text), self.places.on(place, dest_text)
                else:
                    source, dest = self.places.on(place, source_text), self.places.of(dest_text)
                number = self.request(source, dest, self.rule(staging), partial(staged, staging=staging), task.id)
                attempt.requests.add(number)
            except Refused as error:
                attempt.problems.append(str(error))
        if not attempt.requests:
            self._attempts.pop((member.name, key), None)
            done("; ".join(attempt.problems))

    def cancel(self, engine: str, key: Key) -> bool:
        """Ends the moving of one attempt's data; nobody is told. False if nothing of it was being moved."""
        attempt = self._attempts.pop((engine, key), None)
        if attempt is None:
            return False
        for number in attempt.requests:
            self._mover.cancel(number)
        return True

    # the end

    def deliver(self, source: Location, staging: Staging, done: Done) -> None:
        """One output of the run, complete."""

        def staged(end: Staged) -> None:
            self.outputs += end.deliveries
            done(end)

        pattern = self.places.at(source, staging.source).pattern
        relative = pattern.relative(source.path)
        dest = self.places.of(staging.dest)
        glob = self.places.at(source, staging.source)
        goal = locations.target(dest, glob, relative or source.path.rpartition("/")[2])
        self.request(source.at(_literal(source.path)), dest.at(goal.path), self.rule(staging), staged)

    def wait(self, may_go_on: Callable[[], bool]) -> None:
        """Until nothing is under way any more, or `may_go_on` says no."""
        while self.busy and may_go_on():
            for key, _ in self._selector.select(0.5):
                if key.fd == self._wake:
                    self._pump()

    def close(self) -> None:
        """Nothing is moved any more; what is unfinished leaves no trace under its name."""
        if self._waker < 0:
            return
        self._mover.close()
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._wake)
        os.close(self._wake)
        os.close(self._waker)
        self._waker = -1
        shutil.rmtree(self._spool, ignore_errors=True)


def _problem(end: Staged, staging: Staging) -> str:
    """Why a request is not what was wished for; '' when all is there."""
    if end.failures:
        first = end.failures[0]
        more = len(end.failures) - 1
        return first.why + (f" (and {more} more)" if more else "")
    if not end.deliveries:
        return f"{staging.source}: nothing matches"
    return ""


def _literal(path: str) -> str:
    """A path as a location that stands for it alone."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in path)


def failed_result(key: Key, why: str, start: float) -> Result:
    """The result of an attempt whose data could not be fetched."""
    kind, number, n = key
    reason = why.encode("utf-8", "surrogateescape")
    now = time.time()
    took = max(0.0, now - start)
    return Result(kind, number, n, "stage-in", FAILED, -1, -1, start, now, took, 0.0, 0.0, 0, 0, b"", len(reason), reason, False)


def task_variables(task: Task, rank: int) -> dict[str, str]:
    """The variables of a task as far as they are known before it has a slot."""
    found = {
        "TASKID": f"{task.id}",
        "STREAM_INDEX": f"{task.line}",
        "REPEAT_INDEX": f"{task.repeat}",
        "TASKID_ZP": f"{task.id:06d}",
        "STREAM_INDEX_ZP": f"{task.line:06d}",
        "REPEAT_INDEX_ZP": f"{task.repeat:06d}",
        "ENGINE_RANK": f"{rank}",
    }
    both = {f"{prefix}_{name}": value for name, value in found.items() for prefix in ("TASKRUN", "DISBATCH")}
    if task.file is not None:
        both["TASKRUN_FILE"] = os.fsdecode(task.file)
    return both
