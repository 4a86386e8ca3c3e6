"""What the run has made for its STAGE-OUT RUN lines: looked for again and again while tasks run, delivered as it is complete.

Looking blocks (a network file system, a host far away): it is done in a thread, one look at a time. A place is looked at for the last
time when nobody writes there any more: its engine has left, or the run is over.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

from taskrun.driver.completing import Completing, Look, Patience
from taskrun.driver.staging import Stager
from taskrun.errors import Handled
from taskrun.model import Staging
from taskrun.staging.mover import Staged
from taskrun.staging.store import Cancelled, Entry, FolderStore, Listing, StoreError, Transient

LAST_TRIES = 4  # to look at a place for the last time
LAST_AGAIN = 0.25  # seconds between two of those looks, while something is not complete
SAID_AFTER = 3.0  # seconds: a wait that is longer is reported


class _Look(NamedTuple):
    """What one place was found to have for one line. `why`: it could not be looked at for the last time."""

    staging: Staging
    place: str
    entries: list[Entry]
    why: str = ""
    incomplete: dict[str, str] = {}  # noqa: RUF012 - names that are not delivered, with why
    said: str = ""


class Outputs:
    """`swept`: told the place whose outputs are all delivered."""

    def __init__(self, stager: Stager, patience: Patience, swept: Callable[[str], None]) -> None:
        self.stager = stager
        self.patience = patience
        self.waits_for = ""  # at the end: an output that is not complete, and why
        self.failed: dict[tuple[str, str], str] = {}  # (place, what could not be delivered) → why
        self.live: set[str] = {""}  # places where tasks may write
        self.lost: set[str] = set()  # places whose engine was lost once: it may have been in the middle of a file
        self._swept = swept
        self._ending: set[str] = set()  # to be looked at for the last time
        self._looked: set[str] = set()  # that was done
        self._moving: Counter[str] = Counter()  # place → its files under way
        self._completing: dict[tuple[int, str], Completing] = {}  # by line and place
        self._matched: set[int] = set()  # lines
        self._again: dict[tuple[int, str], set[str]] = {}  # names that could not be delivered, for the last look
        self._found: deque[_Look | str] = deque()  # a place: that was all of it
        self._interrupted = 0
        self._looker: threading.Thread | None = None
        self._look_at = 0.0

    def end(self, place: str) -> None:
        """Nobody writes there any more: what is left there is delivered soon."""
        self.live.discard(place)
        if place not in self._ending:
            self._ending.add(place)
            self.stager.carrier.wake()

    def begin(self, place: str) -> None:
        """An engine works there (again)."""
        self.live.add(place)
        self._ending.discard(place)
        self._looked.discard(place)

    def lose(self, place: str) -> None:
        """Its engine is lost: it is looked at again when one works there, or at the end."""
        self.live.discard(place)
        self.lost.add(place)

    def interrupt(self) -> None:
        """The look that is under way ends; what it was to find is looked for again at the end, or by a resume."""
        self._interrupted += 1

    def is_over(self, place: str) -> bool:
        """It was looked at for the last time, and nothing is on its way from there any more."""
        return place in self._looked and not self._moving[place]

    @property
    def regained(self) -> set[str]:
        """Places whose engine was lost and that are, or were, there again."""
        missed = {place for place, _ in self.failed}
        return {place for place in self.lost if place in self.live or (self.is_over(place) and place not in missed)}

    @property
    def busy(self) -> bool:
        """Of a place that was ended not everything is delivered."""
        return bool(self._found or self._moving.total()) or bool(self._ending - self._looked)

    @property
    def barren(self) -> list[Staging]:
        """Lines for which nothing was ever found."""
        return [each for each in self.stager.out_stagings if each.line not in self._matched]

    def tick(self) -> None:
        """Once a second, and whenever the loop was woken."""
        self._hand_on()
        if self._looker is not None and self._looker.is_alive():
            return
        todo = sorted(self._ending - self._looked)
        last = bool(todo)
        now = time.monotonic()
        if not last and self.stager.out_stagings and now >= self._look_at:
            self._look_at = now + max(1.0, self.patience.settle / 2)
            todo = sorted(self.live)
        if todo:
            stagings = list(self.stager.out_stagings)
            self._looker = threading.Thread(target=self._look, args=(stagings, todo, last), name="outputs", daemon=True)
            self._looker.start()

    # in the thread

    def _look(self, stagings: list[Staging], places: list[str], last: bool) -> None:
        until = time.monotonic() + self.patience.writers
        before = self._interrupted
        for place in places:
            for staging in stagings:
                look = self._look_for(staging, place, last)
                if last:
                    look = self._look_until(look, until, before)
                if look.entries or look.why or look.incomplete:
                    self._found.append(look)
            if last:
                self._found.append(place)
        if self._found:
            self.stager.carrier.wake()

    def _look_until(self, look: _Look, until: float, before: int) -> _Look:
        """Look again until all is complete; what is not by then, or when a signal comes, is not delivered."""
        begun, said = time.monotonic(), False
        until = max(until, begun + self.patience.last_settle)
        while look.incomplete and time.monotonic() < until and self._interrupted == before:
            name, why = next(iter(look.incomplete.items()))
            self.waits_for = f"{name}, {why}"
            if not said and time.monotonic() - begun > SAID_AFTER:
                said = True
                text = f"waiting for {self.waits_for}, {self.patience.writers:g} s at most (--writers-wait); Ctrl-C ends the wait"
                self._found.append(_Look(look.staging, look.place, [], said=text))
                self.stager.carrier.wake()
            if look.entries:  # what is complete goes meanwhile
                self._found.append(look._replace(incomplete={}))
                self.stager.carrier.wake()
            time.sleep(LAST_AGAIN)
            look = self._look_for(look.staging, look.place, last=True)
        self.waits_for = ""
        return look

    def _look_for(self, staging: Staging, place: str, last: bool) -> _Look:
        folder = None if place else self.stager.places.settings.folder
        key = (staging.line, place)
        completing = self._completing.setdefault(key, Completing(self.patience, self.stager.open_files, folder, self.stager.own))
        try:
            entries = self._entries(staging, place, LAST_TRIES if last else 1)
            if last:
                for name in self._again.pop(key, ()):
                    completing.settling.failed(name)
            store = self.stager.places.stores.of(self.stager.places.on(place, staging.source))
            assert isinstance(store, FolderStore)
            found: Look = completing.look(entries, store, last=last)
        except Cancelled:
            return _Look(staging, place, [], "the look for it was interrupted" if last else "")
        except Exception as error:  # noqa: BLE001 - a host that is away for a moment; the last look tells
            told = isinstance(error, StoreError | Handled)
            return _Look(staging, place, [], (str(error) if told else f"{type(error).__name__}: {error}") if last else "")
        return _Look(staging, place, found.ready, "", found.waiting if last else {})

    def _entries(self, staging: Staging, place: str, tries: int) -> list[Entry]:
        where = self.stager.places.on(place, staging.source)
        store = self.stager.places.stores.of(where)
        before = self._interrupted
        for failed in range(1, tries):
            try:
                found = list(store.find(where.pattern, Listing(lambda: self._interrupted > before)))
                break
            except Transient:
                time.sleep(2.0**failed / 2)
        else:
            found = list(store.find(where.pattern, Listing(lambda: self._interrupted > before)))
        if place or not found:
            return found
        products = self.stager.products({entry.name for entry in found}, staging)
        return [entry for entry in found if entry.name not in products]

    # in the loop

    def _hand_on(self) -> None:
        while self._found:
            found = self._found.popleft()
            if isinstance(found, str):
                self._looked.add(found)
                self._close(found)
                continue
            if found.said:
                self.stager.note("warning", found.said)
            if found.why:
                self.failed[found.place, found.staging.source] = found.why
            for name, why in found.incomplete.items():
                self.failed[found.place, str(self.stager.places.on(found.place, found.staging.source).at(name))] = why
            if found.entries or found.incomplete:
                self._matched.add(found.staging.line)
            for entry in found.entries:
                self._deliver(found.staging, found.place, entry)

    def _deliver(self, staging: Staging, place: str, entry: Entry) -> None:
        source = self.stager.places.on(place, staging.source).at(entry.name)

        def done(end: Staged) -> None:
            if end.failures or not end.deliveries:
                self._again.setdefault((staging.line, place), set()).add(entry.name)
                self.failed[place, str(source)] = end.failures[0].why if end.failures else "it has gone"
            else:
                self.failed.pop((place, str(source)), None)
            self._moving[place] -= 1
            self._close(place)

        self._moving[place] += 1
        self.stager.deliver(source, staging, done)

    def _close(self, place: str) -> None:
        if place in self._looked and not self._moving[place] and not any(where == place for where, _ in self.failed):
            self._swept(place)
