"""What STAGE lines ask for, in the run's own order: inputs before tasks start, outputs when they have ended. The carrier does the work.

RUN stage-ins hold back the tasks below them (`admit`), ENGINE ones the engine, TASK ones the attempt. What tasks make for the run is
looked for as it goes (`outputs`). Everything here runs in the driver's loop.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Collection
from functools import cache, partial
from typing import NamedTuple

from taskrun.driver.carrier import Carrier, Done
from taskrun.driver.completing import Completing, Patience, Waiter
from taskrun.driver.member import Member
from taskrun.driver.places import Places
from taskrun.encryption.gpg import Gpg
from taskrun.encryption.rules import Wish, clear_name, encrypted_name, is_encrypted
from taskrun.errors import Refused
from taskrun.model import Encryption, Planned, Result, Staging, Supplied, Task
from taskrun.scheduling.messages import Key
from taskrun.staging import locations
from taskrun.staging.local import LocalStore
from taskrun.staging.locations import Location
from taskrun.staging.mover import Staged
from taskrun.staging.open_files import OpenFiles
from taskrun.staging.store import FolderStore
from taskrun.staging.transfers import Delivery, Renamed, Rule, Unready

FAILED = 74  # the return code of a task whose data could not be moved: EX_IOERR
NAMES = ("TASKID", "STREAM_INDEX", "REPEAT_INDEX", "TASKID_ZP", "STREAM_INDEX_ZP", "REPEAT_INDEX_ZP", "ENGINE_RANK", "JOBID", "NAMETASKS")


class Attempt(NamedTuple):
    """One attempt whose data is being moved."""

    engine: str
    key: Key
    requests: set[int]  # that are under way
    problems: list[str]


class Stager:
    """`note` says a sentence (level, text). `variables`: those that all tasks have."""

    def __init__(
        self,
        places: Places,
        carrier: Carrier,
        gpg: Callable[[], Gpg],
        note: Callable[[str, str], None],
        variables: dict[str, str],
        inputs: list[Delivery],
        outputs: list[Delivery],
        patience: Patience,
    ) -> None:
        """`inputs` and `outputs`: what earlier runs have moved; what this one moves is added. `patience`: with outputs."""
        self.places = places
        self.carrier = carrier
        self.note = note
        self.variables = variables
        self.inputs = inputs
        self.outputs = outputs
        self.stop: Callable[[str], None] = lambda _: None  # called when the tasks below cannot start
        self.idle = False  # nothing is left to run: nothing need be fetched
        self.engine_stagings: list[Staging] = []
        self.out_stagings: list[Staging] = []
        self.open_files = OpenFiles()
        self.own: Callable[[str], bool] = lambda _: False  # whether a name of the driver's folder is of the run's own files
        self._patience = patience
        self._gpg = gpg
        self._rules: dict[tuple[str, Encryption | None], Rule] = {}
        self._kept: deque[Supplied] = deque()
        self._runs: dict[int, str] = {}  # line of a RUN or ENGINE stage-in: wanted, done, failed
        self._attempts: dict[tuple[str, Key], Attempt] = {}
        self._came_from: dict[str, str] = {}  # destination of an output of the run → its source
        carrier.on_delivered = lambda way, delivery: (inputs if way == "in" else outputs).append(delivery)

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
            change = self._gpg().encryption(wish)
            return lambda name: Renamed(encrypted_name(name), change)

        decryption = cache(lambda: self._gpg().decryption(wish))  # without an encrypted file nobody needs gpg
        return lambda name: Renamed(clear_name(name), decryption()) if is_encrypted(name) else None

    def begin(self, stagings: list[Staging]) -> None:
        """The lines of a regular file: RUN stage-ins begin now, side by side."""
        self.out_stagings += [each for each in stagings if (each.way, each.scope) == ("out", "RUN")]
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
            problem = _problem(end, staging)
            if problem:
                self._runs[staging.line] = "failed"
                self.note("error", f"line {staging.line}: {problem}; the tasks below are not started")
                self.stop(f"line {staging.line}: its data could not be fetched")
            else:
                self._runs[staging.line] = "done"

        self.carrier.request(self.places.of(staging.source), self.places.of(staging.dest), self.rule(staging), "in", done)

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
            else:
                passed.append(item)
            kept.popleft()
        return passed

    def _pass(self, staging: Staging) -> bool:
        if staging.way == "out":
            if staging not in self.out_stagings:  # of a stream
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
        left: set[int] = set()
        problems: list[str] = []

        def done(end: Staged, staging: Staging) -> None:
            problem = _problem(end, staging)
            if problem:
                problems.append(problem)
            elif member.shared:
                self._runs[staging.line] = "done"
            left.discard(end.request)
            if not left:
                ready("; ".join(problems))

        for staging in self.engine_stagings:
            if not member.shared or self._runs.get(staging.line) != "done":
                source, dest = self.places.of(staging.source), self.places.on(self.places.name(member), staging.dest)
                left.add(self.carrier.request(source, dest, self.rule(staging), "in", partial(done, staging=staging)))
        if not left:
            ready("")

    # attempts

    def fetch(self, member: Member, key: Key, task: Task, start: Callable[[], None], fail: Callable[[str], None]) -> None:
        """What this attempt needs; then `start`, or `fail` with why."""
        self._move(member, key, task, "in", lambda why: fail(why) if why else start())

    def ship(self, member: Member, key: Key, task: Task, done: Callable[[str], None]) -> None:
        """What this attempt has made; then `done`, with why if something could not be delivered."""
        self._move(member, key, task, "out", done)

    def _move(self, member: Member, key: Key, task: Task, way: str, done: Callable[[str], None]) -> None:
        where = (member.name, key)
        attempt = self._attempts[where] = Attempt(member.name, key, set(), [])
        variables = {**self.variables, **task_variables(task, member.rank)}

        def staged(end: Staged, staging: Staging) -> None:
            problem = _problem(end, staging)
            if problem:
                attempt.problems.append(problem)
            attempt.requests.discard(end.request)
            if not attempt.requests and self._attempts.pop(where, None) is not None:
                done("; ".join(attempt.problems))

        for staging in [each for each in task.staging if each.way == way]:
            try:
                source, dest = self._ends(staging, self.places.name(member), variables)
                unready: Unready = self._waiter(source) if way == "out" else lambda _: ""
                attempt.requests.add(
                    self.carrier.request(source, dest, self.rule(staging), staging.way, partial(staged, staging=staging), task.id, unready)
                )
            except Refused as error:
                attempt.problems.append(str(error))
        if not attempt.requests:
            self._attempts.pop(where, None)
            done("; ".join(attempt.problems))

    def _waiter(self, source: Location) -> Waiter:
        """Return the one that tells whether outputs of an attempt are complete."""
        folder = self.places.settings.folder if source.kind == "local" else None

        def store() -> FolderStore:
            found = self.places.stores.of(source)
            assert isinstance(found, FolderStore)
            return found

        return Waiter(Completing(self._patience, self.open_files, folder, self.own), store, self._patience.writers)

    def _ends(self, staging: Staging, place: str, variables: dict[str, str]) -> tuple[Location, Location]:
        """From where to where, for one attempt. A value stands for itself, also where it looks like a glob. Raises Refused."""
        source = locations.expand(staging.source, {name: _literal(value) for name, value in variables.items()})
        dest = locations.expand(staging.dest, variables).replace("[$]", "$")
        if staging.way == "in":
            return self.places.of(source), self.places.on(place, dest)
        return self.places.on(place, source), self.places.of(dest)

    def cancel(self, engine: str, key: Key) -> None:
        """Ends the moving of one attempt's data, if some is under way; nobody is told."""
        attempt = self._attempts.pop((engine, key), None)
        if attempt is not None:
            for number in attempt.requests:
                self.carrier.cancel(number)

    # outputs of the run

    def deliver(self, source: Location, staging: Staging, done: Done) -> None:
        """One output of the run, complete."""

        goal = self._goal(source, staging)
        before = self._came_from.setdefault(str(goal), str(source))
        if before != str(source):
            self.note("warning", f"line {staging.line}: {goal} has come from {before}, and is replaced from {source}")
            self._came_from[str(goal)] = str(source)
        self.carrier.request(source.at(_literal(source.path)), goal, self.rule(staging), "out", done)

    def _goal(self, source: Location, staging: Staging) -> Location:
        """Where an output of the run goes, as it is named before it is encrypted. Raises Refused: outside of DEST."""
        glob = self.places.at(source, staging.source)
        dest = self.places.of(staging.dest)
        return dest.at(locations.target(dest, glob, glob.pattern.relative(source.path) or source.path.rpartition("/")[2]).path)

    def products(self, names: Collection[str], staging: Staging) -> set[str]:
        """Of the files here that match a STAGE-OUT line of the run those that it has made itself.

        PATTERN may match what is in DEST: that is not delivered again, deeper and deeper, or encrypted once more.
        """
        dest = self.places.of(staging.dest)
        if dest.kind != "local":
            return set()
        glob = self.places.of(staging.source)
        store = self.places.stores.of(glob)
        assert isinstance(store, LocalStore)
        made = {os.path.normpath(store.path(each.dest)): each.source for each in tuple(self.outputs) if each.source != each.dest}
        sources = {name: made.get(os.path.normpath(store.path(name)), "") for name in names}
        found = {name for name, source in sources.items() if source and glob.pattern.relative(source) is not None}  # they may be gone
        goals: dict[str, str] = {}
        for name in names:
            with contextlib.suppress(Refused):  # it is said when it is to be delivered
                goal = self._goal(glob.at(name), staging).path
                same = goal.rpartition("/")[2] == name.rpartition("/")[2]
                goals[store.real(encrypted_name(goal) if staging.encryption and (same or not is_encrypted(goal)) else goal)] = name
        return found | {name for name in names if goals.get(store.real(name), name) != name}


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
    numbers = (task.id, task.line, task.repeat)
    values = [f"{number}" for number in numbers] + [f"{number:06d}" for number in numbers] + [f"{rank}"]
    found = {f"{prefix}_{name}": value for name, value in zip(NAMES, values, strict=False) for prefix in ("TASKRUN", "DISBATCH")}
    if task.file is not None:
        found["TASKRUN_FILE"] = os.fsdecode(task.file)
    return found
