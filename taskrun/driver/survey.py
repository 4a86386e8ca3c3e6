"""The transfers that STAGE lines come to now, for `taskrun check`: files, bytes, what is there already, and what a run would refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from taskrun.driver.destinations import PROBE
from taskrun.driver.places import Places, new_places
from taskrun.encryption.rules import clear_name, is_encrypted
from taskrun.errors import Refused
from taskrun.language.diagnostics import Diagnostic, Severity
from taskrun.language.items import Stage
from taskrun.language.source import Scan
from taskrun.model import Staging
from taskrun.planning.expand import Expander
from taskrun.sizes import size_text
from taskrun.staging.locations import Location
from taskrun.staging.store import Denied, Entry, Listing, StoreError, Transient
from taskrun.staging.transfers import Renamed, Request, plan


class Survey:
    """`said`: by line, in words; `problems`: of lines whose data cannot be had."""

    def __init__(self, scan: Scan, rclone_config: str = "") -> None:
        """Asks all stores. Blocks."""
        self.said: dict[int, str] = {}
        self.problems: list[Diagnostic] = []
        self._places = new_places(Path.cwd(), "check", 1, rclone_config, lambda _: None)
        expander = Expander()
        try:
            for item in scan.stages:
                found = [each for each in expander.expand(item) if isinstance(each, Staging)] or expander.staging[-1:]
                if isinstance(item, Stage) and item.source and found:
                    self._look(item, found[-1])
        finally:
            self._places.stores.close()

    def _look(self, item: Stage, staging: Staging) -> None:
        if staging.scope == "TASK" and "$" in staging.source + staging.dest:
            self.said[item.line] = "once for each task"
            return
        try:
            self.said[item.line] = _fetched(staging, self._places) if staging.way == "in" else _delivered(staging, self._places)
        except (StoreError, Refused) as error:
            late = staging.scope == "TASK" or staging.way == "out"  # tasks may make it, or a bucket may be made meanwhile
            passing = isinstance(error, Transient) or late
            self.problems.append(_diagnostic(item, "warning" if passing else "error", str(error), own=staging.way == "in"))


def here(staging: Staging) -> str:
    """Return what a line comes to as far as this machine's directories tell: of stores nothing is asked. '' where they do not."""
    places = new_places(Path.cwd(), "dry", 1, "", lambda _: None)
    try:
        source = places.of(staging.source)
        if source.kind != "local":
            return ""
        if staging.way == "in":
            return _fetched(staging, places)
        entries = list(_found(source, places))
        return f"{_count(entries)} now" if entries else "no file now"
    except (StoreError, Refused) as error:
        return str(error)


def _fetched(staging: Staging, places: Places) -> str:
    source, dest = places.of(staging.source), places.of(staging.dest)
    entries = list(_found(source, places))
    if not entries:
        raise Refused(f"{staging.source}: {'there is no such file' if source.pattern.plain is not None else 'nothing matches'}")
    transfers = plan(Request(0, source, dest, _decrypted), entries)
    store = places.stores.of(dest)
    there = [one for one in transfers if one.change is None and (now := store.stat(one.target.path)) is not None and now.size == one.size]
    text = f"{_count(entries)}, {size_text(sum(max(0, each.size) for each in entries))}"
    return text + (f", {len(there)} of them there with that size" if there else "")


def _delivered(staging: Staging, places: Places) -> str:
    """Raises StoreError where nothing could be delivered."""
    dest = places.of(staging.dest)
    if dest.kind != "local":
        try:
            places.stores.of(dest).stat(dest.path.rpartition("/")[0] + f"/{PROBE}" if "/" in dest.path else PROBE)
        except Denied:
            if dest.kind != "s3":  # who may write need not be allowed to look
                raise
    entries = list(_found(places.of(staging.source), places))
    return f"{_count(entries)} now" if entries else "no file now"


def _found(where: Location, places: Places) -> Iterator[Entry]:
    return places.stores.of(where).find(where.pattern, Listing())


def _decrypted(name: str) -> Renamed | None:
    return Renamed(clear_name(name), _Nothing()) if is_encrypted(name) else None


class _Nothing:
    """Stands for the decryption of a file, which `check` does not do."""

    recipients: tuple[str, ...] = ()
    signer = None

    def apply(self, chunks: object, write: object) -> None:
        """Never called."""


def _count(entries: list[Entry]) -> str:
    return f"{len(entries):,} file{'s'[: len(entries) != 1]}"


def _diagnostic(item: Stage, severity: Severity, problem: str, *, own: bool) -> Diagnostic:
    word = item.source if own else item.dest
    start = item.text.find(item.source, item.text.upper().find(b"STAGE-") + len("STAGE-IN"))
    column = start if own else item.text.find(word, start + len(item.source))
    message, _, hint = problem.replace(PROBE, "").partition("; ")
    return Diagnostic.at(severity, item.line, max(column, 0) + 1, len(word), message, hint or None, item.text)
