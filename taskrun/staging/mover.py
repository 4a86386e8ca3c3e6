"""Moves files in threads of its own, several at a time, and posts what happens. Nothing else of the run is touched by these threads."""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from taskrun.errors import Handled
from taskrun.sizes import size_text
from taskrun.staging import checksum_file
from taskrun.staging.copying import Copy
from taskrun.staging.local import LocalStore
from taskrun.staging.pace import Pace
from taskrun.staging.store import Cancelled, Listing, Missing, NoSpace, Permanent, Store, StoreError, Transient
from taskrun.staging.stores import Stores
from taskrun.staging.transfers import Delivery, Patience, Request, Transfer, plan, shortage, without_products

_TOLD_EVERY = 0.5  # seconds between two Advanced of one transfer
_UNREADY_AGAIN = 0.25  # seconds between two looks at files that are not complete


class Found(NamedTuple):
    """What a request comes to; its transfers begin now."""

    request: Hashable
    files: int
    size: int  # bytes


class Begun(NamedTuple):
    """The first try of a transfer."""

    request: Hashable
    number: int  # counts the mover's transfers
    source: str
    dest: str
    size: int


class Advanced(NamedTuple):
    """`more` bytes have gone since the last one, fewer than none when a try began anew; `rate`: bytes a second since it began."""

    request: Hashable
    number: int
    more: int
    done: int
    size: int
    rate: float


class Delayed(NamedTuple):
    """It failed for a reason that may pass, and is tried again in `seconds`."""

    request: Hashable
    number: int
    why: str
    seconds: float
    tries: int


class Delivered(NamedTuple):
    """It is there."""

    request: Hashable
    number: int
    delivery: Delivery


class Failure(NamedTuple):
    """It is not there, and nothing that looks like it. `cause`: transient (tried in vain), permanent, cancelled."""

    request: Hashable
    number: int  # -1: the request as a whole
    source: str
    dest: str
    why: str
    cause: str
    tries: int


class Staged(NamedTuple):
    """The end of a request. Without failures everything is there; no delivery at all: nothing matched."""

    request: Hashable
    deliveries: tuple[Delivery, ...]
    failures: tuple[Failure, ...]


Event: TypeAlias = "Found | Begun | Advanced | Delayed | Delivered | Failure | Staged"


class Mover:
    """`post` is called with an Event from several threads, and must neither block nor raise.

    `spool`: a private folder (0700) for what is encrypted before it goes where it cannot be streamed to. `known`: deliveries of the run
    that is resumed; what they brought and is still there is not moved again. One destination file is written by one transfer at a time.
    """

    def __init__(
        self,
        stores: Stores,
        post: Callable[[Event], None],
        spool: Path,
        *,
        transfers: int = 4,
        patience: Patience = Patience(),  # noqa: B008 - a value
        known: Iterable[Delivery] = (),
        replace: bool = True,
    ) -> None:
        """`replace`: whether files of others may be replaced at destinations."""
        self._stores = stores
        self._tell = post
        self._spool = spool
        self._patience = patience
        self._most = transfers
        self._replace = replace
        self._pace = Pace(stores.settings.rate) if stores.settings.rate else None
        self._known = {delivery.dest: delivery for delivery in known}
        self._change = threading.Condition()
        self._ready: deque[_Group | _Job] = deque()
        self._later: list[tuple[float, int, _Group | _Job]] = []
        self._count_later = 0
        self._parked: dict[str, deque[_Job]] = {}  # destination → who waits for it; a key is there while somebody writes it
        self._failing: dict[_Way, deque[_Job]] = {}  # ways on which the last try has failed → jobs that wait until one has gone well
        self._trying: set[_Way] = set()  # those of them on which one goes ahead
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._count = 0
        self._groups: dict[Hashable, _Group] = {}
        self._closed = False
        self._ended = False

    def stage(self, request: Request) -> None:
        """Looks the request up and moves what it comes to. Posts Found, Begun …, and Staged at its end. Returns at once."""
        group = _Group(request)
        with self._change:
            self._groups[request.id] = group
            self._enqueue(group)

    def cancel(self, request: Hashable) -> None:
        """Ends what is left of a request: its Staged comes soon, with failures whose cause is `cancelled`."""
        with self._change:
            if group := self._groups.get(request):
                group.cancelled = True
                looking = group.looking
                held = [job for jobs in self._failing.values() for job in jobs if job.group is group]
                for jobs in self._failing.values():
                    for job in [job for job in jobs if job.group is group]:
                        jobs.remove(job)
                waiting = [*held, *(work for _, _, work in self._later if work.group is group)]
                self._later = [item for item in self._later if item[2] not in waiting]
                heapq.heapify(self._later)
                self._ready.extendleft(waiting)
                self._change.notify_all()
        if group is not None and looking:  # a store that is slow to answer keeps nobody waiting
            self._give_up(group, "cancelled", "cancelled")

    def close(self, patience: float = 5.0) -> None:
        """Cancels everything, waits for the threads for so many seconds, closes the stores. No event is posted after it."""
        for request in list(self._groups):
            self.cancel(request)
        with self._change:
            self._closed = True
            self._change.notify_all()
        end = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._ended = True
        self._stores.close()

    def _post(self, event: Event) -> None:
        if not self._ended:
            self._tell(event)

    def _enqueue(self, work: _Group | _Job) -> None:
        self._ready.append(work)
        if self._idle == 0 and len(self._threads) < self._most:
            thread = threading.Thread(target=self._work, name=f"mover-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._change.notify()

    def _work(self) -> None:
        while (work := self._take()) is not None:
            if isinstance(work, _Group):
                self._look_up(work)
            else:
                self._move(work)

    def _take(self) -> _Group | _Job | None:
        """The next thing to do; None when the mover is closed."""
        with self._change:
            while True:
                while self._later and self._later[0][0] <= time.monotonic():
                    self._ready.append(heapq.heappop(self._later)[2])
                while self._ready:
                    work = self._ready.popleft()
                    if isinstance(work, _Group):
                        return work
                    if not self._may_try(work):
                        continue
                    if work.holds:
                        return work
                    if (waiting := self._parked.get(work.key)) is not None:
                        self._trying.discard(work.way)
                        waiting.append(work)
                        continue
                    self._parked[work.key] = deque()
                    work.holds = True
                    return work
                if self._closed:
                    return None
                self._idle += 1
                self._change.wait(max(0.0, self._later[0][0] - time.monotonic()) if self._later else None)
                self._idle -= 1

    def _may_try(self, job: _Job) -> bool:
        """Return whether a job may go ahead: on a way that fails one at a time does, so that a dead host leaves threads to the others."""
        held = self._failing.get(job.way)
        if held is None or job.group.cancelled:
            return True
        if job.way in self._trying:
            held.append(job)
            return False
        self._trying.add(job.way)
        return True

    def _tried(self, job: _Job, *, well: bool) -> None:
        """The end of a try: others of its way may go ahead, one if it has failed."""
        self._trying.discard(job.way)
        if well:
            self._ready.extend(self._failing.pop(job.way, ()))
        elif held := self._failing.setdefault(job.way, deque()):
            self._ready.append(held.popleft())
        self._change.notify_all()

    def _look_up(self, group: _Group) -> None:
        request = group.request
        group.tries += 1
        try:
            if group.cancelled:
                raise Cancelled
            transfers = self._plan(group)
        except _Unready:
            group.tries -= 1
            self._look_up_in(_UNREADY_AGAIN, group)
            return
        except Transient as error:
            wait = self._patience.wait(group.tries, random.random())  # noqa: S311 - no secret
            if wait is None or group.cancelled:
                self._give_up(group, str(error), "transient")
                return
            self._post(Delayed(request.id, -1, str(error), wait, group.tries))
            self._look_up_in(wait, group)
            return
        except (StoreError, Handled) as error:
            self._give_up(group, str(error), "permanent")
            return
        except Cancelled:
            self._give_up(group, "cancelled", "cancelled")
            return
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not leave somebody waiting for ever
            self._give_up(group, f"{type(error).__name__}: {error} (a mistake in taskrun)", "permanent")
            return
        with self._change:
            if group.over:
                return
            group.looking = False
            group.left = len(transfers)
            self._post(Found(request.id, len(transfers), sum(one.size for one in transfers)))
            for transfer in transfers:
                self._count += 1
                self._enqueue(_Job(group, self._count, transfer))
        if not transfers:
            self._end(group)

    def _give_up(self, group: _Group, why: str, cause: str) -> None:
        """A request whose result cannot be found out."""
        request = group.request
        self._end(group, Failure(request.id, -1, str(request.source), str(request.dest), why, cause, group.tries))

    def _look_up_in(self, seconds: float, group: _Group) -> None:
        with self._change:
            self._count_later += 1
            heapq.heappush(self._later, (time.monotonic() + seconds, self._count_later, group))
            self._change.notify()

    def _plan(self, group: _Group) -> list[Transfer]:
        request = group.request
        store = self._stores.of(request.source)
        listing = Listing(lambda: group.cancelled)
        entries = list(store.find(request.source.pattern, listing))
        if not entries and (plain := request.source.pattern.plain) is not None:
            if next(iter(store.find(request.source.at(f"{request.source.path}/").pattern, listing)), None) is not None:
                raise Missing(f"{request.source.at(plain)} is a folder: write a / at its end for all files that are in it")
            raise Missing(f"{request.source.at(plain)}: there is no such file")
        if request.unready(entries):
            raise _Unready
        transfers = plan(request, entries)
        if request.verify:
            transfers = _promised(store, transfers)
        if isinstance(store, LocalStore) and request.dest.kind == "local":
            transfers = without_products(transfers, store.real)
        if transfers:
            free = self._stores.of(request.dest).free(transfers[0].target)
            missing = shortage((one.size for one in transfers if str(one.dest) not in self._known), request.workfactor, free)
            if missing:
                raise NoSpace(f"{request.dest}: {size_text(missing)} are missing there for {request.source} times {request.workfactor:g}")
        return transfers

    def _move(self, job: _Job) -> None:
        transfer, group = job.transfer, job.group
        try:
            if group.cancelled:
                raise Cancelled
            if job.copy is None:
                job.copy = Copy(
                    transfer, self._stores.of(transfer.source), self._stores.of(transfer.store), self._spool,
                    self._progress(job), self._known.get(str(transfer.dest)), self._stores.guard, replace=self._replace,
                )  # fmt: skip
                self._post(Begun(group.request.id, job.number, str(transfer.source), str(transfer.dest), transfer.size))
            delivery = job.copy.run()
        except Transient as error:
            job.failed += 1
            wait = self._patience.wait(job.failed, random.random())  # noqa: S311 - no secret
            if wait is None:
                self._finish(job, str(error), "transient")
                return
            if job.copy is not None:
                job.quiet = True
                job.copy.recede()
                job.quiet = False
            self._post(Delayed(group.request.id, job.number, str(error), wait, job.failed))
            with self._change:
                self._count_later += 1
                heapq.heappush(self._later, (time.monotonic() + (0 if group.cancelled else wait), self._count_later, job))
                self._tried(job, well=False)
        except (Permanent, Handled) as error:
            self._finish(job, str(error), "permanent")
        except Cancelled:
            self._finish(job, "cancelled", "cancelled")
        except Exception as error:  # noqa: BLE001 - a mistake of ours must end this transfer, not the others
            self._finish(job, f"{type(error).__name__}: {error} (a mistake in taskrun)", "permanent")
        else:
            self._finish(job, delivery)

    def _progress(self, job: _Job) -> Callable[[int], None]:
        lock = threading.Lock()  # the parts of one file report from several threads
        begun = time.monotonic()
        told = [begun, 0]

        def progress(more: int) -> None:
            if job.group.cancelled and not job.quiet:
                raise Cancelled
            if self._pace is not None and more > 0:
                self._pace.keep(more, lambda: job.group.cancelled)
            with lock:
                job.done += more
                now = time.monotonic()
                if now - told[0] < _TOLD_EVERY and more >= 0 and job.done < job.transfer.size:
                    return
                since, told[0], told[1] = job.done - int(told[1]), now, job.done
                if since:
                    rate = job.done / max(now - begun, 1e-3)
                    self._post(Advanced(job.group.request.id, job.number, since, job.done, job.transfer.size, rate))

        return progress

    def _finish(self, job: _Job, result: Delivery | str, cause: str = "") -> None:
        group, transfer = job.group, job.transfer
        tries = max(job.failed, job.copy.tries if job.copy is not None else 0)
        if job.copy is not None:
            job.copy.abandon()
        end: Delivered | Failure
        if isinstance(result, Delivery):
            end = Delivered(group.request.id, job.number, result)
        else:
            end = Failure(group.request.id, job.number, str(transfer.source), str(transfer.dest), result, cause, tries)
        with self._change:
            if isinstance(end, Delivered):
                self._known[end.delivery.dest] = end.delivery
            self._tried(job, well=isinstance(end, Delivered) or end.cause != "transient")
            waiting = self._parked.pop(job.key, None) if job.holds else None
            if waiting:
                self._ready.extendleft(reversed(waiting))
                self._change.notify()
            group.ended.append(end)
            group.left -= 1
            last = group.left == 0
        self._post(end)
        if last:
            self._end(group)

    def _end(self, group: _Group, failure: Failure | None = None) -> None:
        """Once."""
        with self._change:
            if group.over or (failure is not None and not group.looking):
                return  # somebody was faster
            group.over = True
            self._groups.pop(group.request.id, None)
        if failure is not None:
            self._post(failure)
            group.ended.append(failure)
        deliveries = tuple(end.delivery for end in group.ended if isinstance(end, Delivered))
        failures = tuple(end for end in group.ended if isinstance(end, Failure))
        self._post(Staged(group.request.id, deliveries, failures))


#: From which store to which: kind and name of each.
_Way: TypeAlias = "tuple[str, str, str, str]"


def _promised(store: Store, transfers: list[Transfer]) -> list[Transfer]:
    """Add to transfers what a SHA256SUMS beside their sources says. Raises StoreError."""
    sums: dict[str, dict[str, str]] = {}
    found = []
    for each in transfers:
        folder, slash, name = each.source.path.rpartition("/")
        if folder not in sums:
            there = store.stat(f"{folder}{slash}{checksum_file.NAME}")
            known = there is not None and there.size <= checksum_file.LARGEST
            sums[folder] = checksum_file.parse(b"".join(store.read(there))) if there is not None and known else {}
        found.append(each._replace(promised=sums[folder].get(name, "") if name != checksum_file.NAME else ""))
    return found


class _Unready(Exception):
    """The files that were found are not complete."""


class _Group:
    """A request under way."""

    def __init__(self, request: Request) -> None:
        self.group = self
        self.request = request
        self.cancelled = False
        self.looking = True  # what it comes to is not known yet
        self.over = False  # its Staged was posted
        self.tries = 0
        self.left = 0
        self.ended: list[Delivered | Failure] = []


class _Job:
    """A transfer under way."""

    def __init__(self, group: _Group, number: int, transfer: Transfer) -> None:
        self.group = group
        self.number = number
        self.transfer = transfer
        self.key = str(transfer.dest)
        source, dest = transfer.source, transfer.store
        self.way: _Way = (source.kind, source.where, dest.kind, dest.where)
        self.holds = False  # the right to write its destination
        self.copy: Copy | None = None
        self.done = 0
        self.quiet = False  # while it takes back what was counted, nothing may interrupt it
        self.failed = 0  # tries
