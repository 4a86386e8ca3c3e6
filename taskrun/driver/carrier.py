"""The mover as the driver's loop sees it: requests go in, their ends come out in the loop's own thread, and all bytes are counted."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from taskrun.agent import folder, probe
from taskrun.staging.locations import Location
from taskrun.staging.mover import Advanced, Begun, Delayed, Delivered, Event, Failure, Found, Mover, Staged
from taskrun.staging.stores import Stores
from taskrun.staging.transfers import Delivery, Patience, Request, Rule, Tally, Unready
from taskrun.status import opening, owner

Way = Literal["in", "out"]
Done = Callable[[Staged], None]


#: Files that were replaced are named, so many of them; others are counted.
REPLACED_SHOWN = 5


#: In a spool directory: the process that it belongs to.
_OWNER = "owner"


class _Wish(NamedTuple):
    """A request under way. `task`: its id, None for one of the run."""

    way: Way
    task: int | None
    done: Done


class Carrier:
    """`post_transfer` records an event: fields of a `transfer`. `note` says a sentence (level, text)."""

    def __init__(
        self,
        stores: Stores,
        selector: selectors.BaseSelector,
        note: Callable[[str, str], None],
        post_transfer: Callable[..., None],
        tag: str,
        *,
        transfers: int,
        workfactor: float,
        known: Iterable[Delivery] = (),
        replace: bool = True,
        tries: int = Patience().tries,
        verify: bool = False,
    ) -> None:
        """`tag`: of this run and those it carries on; `known`: what they have brought.

        `replace`: whether files of others may be replaced. `verify`: inputs, by a SHA256SUMS beside them.
        """
        self.tallies: dict[Way, Tally] = {"in": Tally(), "out": Tally()}
        self.moved: dict[Way, int] = {"in": 0, "out": 0}  # files
        self.spared: dict[Way, int] = {"in": 0, "out": 0}  # files that were there already
        self.replaced = 0  # files of others
        self._note = note
        self._post_transfer = post_transfer
        self._workfactor = workfactor
        self._verify = verify
        self._selector = selector
        self._inbox: deque[Event] = deque()
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        selector.register(self._wake, selectors.EVENT_READ, self._pump)
        _sweep(Path(tempfile.gettempdir()), tag)
        self.spool = Path(tempfile.mkdtemp(prefix=f"taskrun-spool-{tag}-"))
        with os.fdopen(opening.new(self.spool / _OWNER, 0o600), "wb") as file:
            file.write(owner.this_process(tag).to_json())
        self._mover = Mover(stores, self._post, self.spool, transfers=transfers, known=known, replace=replace, patience=Patience(tries))
        self.on_delivered: Callable[[Way, Delivery], None] = lambda *_: None  # of each file, also where nobody waits for it any more
        self._count = 0
        self._wishes: dict[int, _Wish] = {}
        self._cancelled: set[int] = set()
        self._left: dict[int, int] = {}  # transfer → its bytes that have not gone

    def request(
        self, source: Location, dest: Location, rule: Rule, way: Way, done: Done, task: int | None = None, unready: Unready = lambda _: ""
    ) -> int:
        """`done` is called in the loop when all that matches `source` has been moved, or could not be. Returns its number."""
        self._count += 1
        number = self._count
        self._wishes[number] = _Wish(way, task, done)
        self._mover.stage(
            Request(number, source, dest, rule, self._workfactor if way == "in" else 1.0, unready, self._verify and way == "in")
        )
        return number

    def cancel(self, number: int) -> None:
        """Its `done` is never called."""
        wish = self._wishes.get(number)
        if wish is not None:
            self._wishes[number] = wish._replace(done=lambda _: None)
            self._cancelled.add(number)
            self._mover.cancel(number)

    def cancel_all(self, way: Way) -> None:
        for number in [number for number, wish in self._wishes.items() if wish.way == way]:
            self.cancel(number)

    @property
    def busy(self) -> int:
        """Requests under way."""
        return len(self._wishes)

    @property
    def tidies(self) -> bool:
        """What was cancelled is still removing what it had begun."""
        return bool(self._cancelled)

    def wake(self) -> None:
        """The loop looks around; from any thread."""
        with contextlib.suppress(OSError):  # full: it is awake; closed: nobody need wake
            os.write(self._waker, b"x")

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
        shutil.rmtree(self.spool, ignore_errors=True)

    def _post(self, event: Event) -> None:
        """From the mover's threads."""
        self._inbox.append(event)
        self.wake()

    def _pump(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)
        while self._inbox:
            self._take(self._inbox.popleft())

    def _take(self, event: Event) -> None:
        number = event.request
        assert isinstance(number, int)
        if isinstance(event, Staged):
            self._cancelled.discard(number)
            self._wishes.pop(number).done(event)
        elif isinstance(event, Delivered):
            self._delivered(self._wishes[number], event)
        elif isinstance(event, Failure):
            self._failed(self._wishes[number], event)
        elif isinstance(event, Delayed):
            self._note("info", f"{event.why}; tried again in {event.seconds:.0f} s")
        elif isinstance(event, Found):
            self._tally(number).found(event.files, event.size)
        elif isinstance(event, Begun):
            self._left[event.number] = event.size
        elif isinstance(event, Advanced):
            self._left[event.number] -= event.more
            self._tally(number).advanced(event.more, time.monotonic())

    def _delivered(self, wish: _Wish, event: Delivered) -> None:
        delivery = event.delivery
        self._settle(event.number, wish.way)
        self.tallies[wish.way].done_files += 1
        (self.moved if delivery.how == "moved" else self.spared)[wish.way] += 1
        self._post_transfer(id=wish.task, way=wish.way, cause="ok", **delivery.to_json())
        if delivery.replaced and delivery.how == "moved":
            self.replaced += 1
            if self.replaced <= REPLACED_SHOWN:
                self._note("warning", f"{delivery.dest} was there with other content, and has been replaced from {delivery.source}")
        self.on_delivered(wish.way, delivery)

    def _failed(self, wish: _Wish, event: Failure) -> None:
        self._settle(event.number, wish.way)
        if event.cause != "cancelled":
            self._post_transfer(
                id=wish.task, way=wish.way, cause=event.cause, source=event.source, dest=event.dest, why=event.why, tries=event.tries
            )

    def busy_with(self, way: Way) -> bool:
        """Return whether requests of a way are under way."""
        return any(wish.way == way for wish in self._wishes.values())

    def _tally(self, request: int) -> Tally:
        return self.tallies[self._wishes[request].way]

    def _settle(self, number: int, way: Way) -> None:
        """What has not gone by now need not go: it was there already, or cannot be had."""
        left = self._left.pop(number, 0)
        if left:
            self.tallies[way].found(0, -left)


def _sweep(temporary: Path, tag: str) -> None:
    """Remove the spool directories of killed drivers: of this run, and those that say that their process is dead."""
    if not probe.keeps(str(temporary)):
        return
    for left in temporary.glob("taskrun-spool-*"):
        mine = left.name.startswith(f"taskrun-spool-{tag}-")
        with contextlib.suppress(OSError):
            if not mine and left.stat().st_uid == os.geteuid():
                whose = owner.from_json((left / _OWNER).read_bytes())
                mine = whose is not None and owner.life_of(whose) == "dead"
        if mine:
            folder.remove(str(left))
