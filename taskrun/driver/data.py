"""The data of one run: begun with it, waited for at its end, and accounted for in the manifest."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import stat
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from taskrun.driver import files
from taskrun.driver.before import Before
from taskrun.driver.carrier import REPLACED_SHOWN, Carrier, Way
from taskrun.driver.completing import Patience
from taskrun.driver.deliveries import Earlier, Span
from taskrun.driver.destinations import Destinations
from taskrun.driver.handed import Handed
from taskrun.driver.inspection import preflight
from taskrun.driver.leftovers import dead_tags, remove_leftovers, tidy
from taskrun.driver.outputs import Outputs
from taskrun.driver.places import new_places
from taskrun.driver.space import Space
from taskrun.driver.staging import Stager
from taskrun.encryption.gpg import Gpg
from taskrun.errors import ExitCode, Refused
from taskrun.model import Planned, Staging, Supplied
from taskrun.options import Options
from taskrun.planning.expand import Expander
from taskrun.sizes import size_text
from taskrun.staging import manifest
from taskrun.staging.store import FolderStore, Listing, StoreError
from taskrun.staging.transfers import Tally
from taskrun.status import names

if TYPE_CHECKING:
    import selectors

    from taskrun.driver.member import Member
    from taskrun.driver.places import Folder
    from taskrun.driver.porter import Porter
    from taskrun.engines.streams import Host
    from taskrun.language.source import Scan
    from taskrun.staging.guard import Guard
    from taskrun.staging.transfers import Delivery

FAILURES_SHOWN = 5
LOOK_AT_SPACE = 5.0  # seconds between two looks at the free space


def stagings_of(scan: Scan) -> list[Staging]:
    """Every STAGE line of a scanned file with the encryption of its place, in order."""
    expander = Expander()
    found: dict[int, Staging] = {}
    for item in scan.stages:
        found.update((each.line, each) for each in expander.expand(item) if isinstance(each, Staging))
        found.update((each.line, each) for each in expander.staging[-1:])
    return [found[line] for line in sorted(found)]


class Data:
    """Stager and outputs of one run."""

    def __init__(
        self,
        options: Options,
        cwd: Path,
        tag: str,
        selector: selectors.BaseSelector,
        note: Callable[[str, str], None],
        record: Callable[..., None],
        variables: dict[str, str],
        earlier: Earlier,
        porter: Porter,
        nodes: Mapping[str, Host],
        hosts: Collection[str],
        guard: Guard,
        prefix: Path,
    ) -> None:
        """`record`: an event, its kind and fields. `nodes`: of the run's SLURM allocation. `hosts`: machines of engines, but for this one.

        `guard`: of the run's own files. `prefix`: of their names. Raises Refused.
        """
        self.options = options
        self.cwd = cwd
        self.note = note
        self.record = record
        self.porter = porter
        places = new_places(
            cwd,
            tag,
            options.transfers,
            options.rclone_config or "",
            lambda text: note("warning", text),
            guard,
            options.bwlimit,
            ssh=options.ssh or "",
            on_engine=options.stage_on_engine,
            silent=options.lost_after,
            nodes=nodes,
        )
        for folder in earlier.folders:
            places.remember(folder)
        self._absent = {folder.address: folder for folder in earlier.folders if folder.reach == "relay"}  # nobody has attached them
        for folder in self._absent.values():
            note("info", f"outputs of the earlier run lie on {folder.host}: attach it again, with --workdir {folder.path}")
        self._earlier = {folder.address for folder in earlier.folders}  # to be looked at for outputs
        self._worked_in = set(self._earlier)
        self._before = earlier
        self._resumed = bool(options.resume_from)
        self._stagings: list[Staging] = []
        self.carrier = Carrier(
            places.stores,
            selector,
            note,
            functools.partial(record, "transfer"),
            tag,
            transfers=options.transfers,
            workfactor=options.workfactor,
            known=[*earlier.inputs, *earlier.outputs],
            replace=not options.no_replace,
            tries=options.transfer_tries,
            verify=options.checksum_file,
        )
        self.gpg = functools.cache(lambda: Gpg(passphrase_file=Path(options.passphrase_file) if options.passphrase_file else None))
        patience = Patience(options.settle, options.writers_wait)
        self.stager = Stager(places, self.carrier, self.gpg, note, variables, list(earlier.inputs), list(earlier.outputs), patience)
        self.destinations = Destinations(places, self.carrier.wake, note)
        far = {*hosts, *(folder.host for folder in earlier.folders if folder.reach != "relay")}
        self.handed = Handed(places, len(far), note)
        self.outputs = Outputs(self.stager, patience, self._swept)
        self.delivering = False  # the run is over but for this
        self.undelivered = False  # something is left that was to be delivered
        self._interrupted = 0
        self._checked: set[int] = set()
        self._attached = False  # an attached engine has been admitted
        self._done_with: set[str] = set()  # places whose connections can be let go
        self._space = Space(note)
        self._look_at_space = 0.0
        self._prefix = prefix
        self.stager.own = self._grows
        self._said_to = [path for each in (1, 2) if (path := _file_of(each)) is not None]
        resumed = [names.prefix_of(files.absolute(name)) for name in options.resume_from]
        self._was_there = Before(names.with_suffix(prefix, names.BEFORE), [names.with_suffix(each, names.BEFORE) for each in resumed])
        self._dead = [each for folder in {cwd, prefix.parent} for each in dead_tags(folder)]
        self._give_back()
        if why := self.look_before(""):
            raise Refused(f"--clean {options.clean}: {why}")

    def look_before(self, place: str) -> str:
        """Record what is in a place before the run works there, if --clean has to know. Return why that cannot be. Blocks."""
        if self.options.clean not in ("all", "encrypted"):
            return ""
        places = self.stager.places
        try:
            store = places.stores.of(places.on(place, "./"))
            assert isinstance(store, FolderStore)
            root = places.folders[place].path if place else str(places.settings.folder)
            seen = (each for each in store.walk("", Listing()) if place or not self._is_own(each.name))
            self._was_there.write(place, root, seen)
        except OSError as error:
            return f"what is there cannot be recorded: {(error.strerror or str(error)).lower()}"
        except (StoreError, Refused) as error:
            return str(error)
        return ""

    def _give_back(self) -> None:
        """Give files here that a killed driver had put aside for --clean their names back."""
        tags = [*([self.stager.places.settings.tag] if self._resumed else []), *self._dead]
        if tags:
            store = self.stager.places.stores.of(self.stager.places.on("", "./"))
            assert isinstance(store, FolderStore)
            with contextlib.suppress(StoreError):  # it is looked at again before anything goes
                tidy(store, "", tags, Listing(), unfinished=False)

    def _is_own(self, name: str) -> bool:
        """Return whether a name is that of a file of this run: those come and go, and others get their inodes."""
        path = self.cwd / name
        return path.parent == self._prefix.parent and names.is_of_run(self._prefix.name, path.name)

    def _grows(self, name: str) -> bool:
        """Return whether a file grows as long as the run goes on: nobody can wait until it is complete."""
        return self._is_own(name) or any(path.name == Path(name).name and _is_same(path, self.cwd / name) for path in self._said_to)

    def begin(self, stagings: list[Staging]) -> None:
        """All lines of a regular file, which were inspected. Raises Refused before anything was moved."""
        for staging in stagings:
            self.stager.rule(staging)
        self._checked = {staging.line for staging in stagings}
        self._stagings += stagings
        self.handed.look(stagings)
        if not self.stager.idle:
            self.destinations.look(stagings)
        self.stager.begin(stagings)

    def admit(self, items: list[Supplied]) -> list[Planned]:
        """What of the plan may be handed on. Raises Refused for a line of a stream that cannot be."""
        for item in items:
            for staging in (item,) if isinstance(item, Staging) else getattr(item, "staging", ()):
                if staging.line not in self._checked:
                    preflight(staging, self.stager.places, self.gpg)
                    self.stager.rule(staging)
                    self._checked.add(staging.line)
                    self._stagings.append(staging)
                    self.destinations.look([staging])
                    self.handed.look([staging])
        return self.stager.admit(items)

    def tick(self) -> None:
        """Once a second, and whenever the loop was woken."""
        self.outputs.tick()
        self.destinations.tick()
        while self._done_with and not self.carrier.tidies and self.options.clean == "keep":
            self.porter.let_go(self._done_with.pop())
        now = time.monotonic()
        if now >= self._look_at_space:
            self._look_at_space = now + LOOK_AT_SPACE
            self._space.look({self.cwd, self.carrier.spool}, self.porter.crew.members.values())
            self.stager.places.tidy()

    def interrupt(self) -> None:
        """The run was told to stop: nobody waits for the end of a list that is being made."""
        self._interrupted += 1
        self.outputs.interrupt()

    # engines

    def admit_engine(self, member: Member) -> None:
        """One that does not share the driver's folder; its place is known."""
        places = self.stager.places
        self._absent.pop(places.name(member), None)
        self.outputs.begin(places.name(member))
        self._worked_in.add(places.name(member))
        if member.request.reach == "relay" and self.options.stage_on_engine and not self._attached:
            self._attached = True
            self.note("info", "--stage-on-engine: the driver moves the data of attached hosts")
        self.record("place", what="used", **places.folders[places.name(member)]._asdict())

    def needs(self, context: str) -> bool:
        """Something is still to be fetched from an attached context, where no engine of it works any more."""
        found = [name for name, each in self.stager.places.contexts.items() if each == context]
        for place in found:
            self.outputs.end(place)
        return bool(found) and (self.options.clean != "keep" or not all(map(self.outputs.is_over, found)) or self.carrier.tidies)

    def _swept(self, place: str) -> None:
        """All outputs of it are delivered: a resume need not look there again."""
        if place:
            self.record("place", what="swept", address=place)
            self._done_with.add(place)

    @property
    def awaited(self) -> list[Folder]:
        """Where outputs of an earlier run lie that only who attaches can reach: a run that waits for engines waits for those, too."""
        return list(self._absent.values()) if self.options.startup_only else []

    # what the view says

    def view(self, *ways: Way) -> str:
        """Return the progress of transfers, in and out apart: bytes, rate, time left; '' when nothing is."""
        carrier = self.carrier
        moving = [way for way in ways or ("in", "out") if carrier.busy_with(way) and carrier.tallies[way].files]
        return "; ".join((f"{way} " if len(moving) > 1 else "") + tally_text(carrier.tallies[way]) for way in moving)

    def waiting(self) -> str:
        """Why nothing starts, if it is for data."""
        if self.delivering:
            waits = self.outputs.waits_for
            return f"delivering what is left: {self.view('out') or (waits and f'waiting for {waits}') or 'looking for it'}"
        if self.awaited and self.stager.idle:
            hosts = ", ".join(sorted({each.host for each in self.awaited}))
            return f"nothing is left to run, but outputs to fetch from {hosts}: attach it again"
        return f"fetching data: {self.view('in') or 'looking for it'}" if self.stager.waits else ""

    def summary(self) -> str:
        """What was moved, for a person; '' when nothing was."""
        parts = []
        carrier = self.carrier
        for word, moved, spared in (
            ("fetched", carrier.moved["in"], carrier.spared["in"]),
            ("delivered", carrier.moved["out"], carrier.spared["out"]),
        ):
            if moved or spared:
                parts.append(f"{moved} file{'s'[: moved != 1]} {word}" + (f" ({spared} were there already)" if spared else ""))
        return f"data: {', '.join(parts)}, {size_text(sum(each.done_bytes for each in carrier.tallies.values()))}" if parts else ""

    # the end

    def finish(self, code: ExitCode, linger: Callable[[Callable[[], bool]], bool], *, hard: bool) -> ExitCode:
        """What is left is delivered. `linger` keeps the run alive until it is told that all is done (True) or by a person to end (False).

        `hard`: the run was told to end at once.
        """
        self.carrier.cancel_all("in")
        self.delivering = True
        outputs = self.outputs
        if self.stager.out_stagings and not hard:
            for place in outputs.live | self._earlier | set(self.stager.places.folders):
                outputs.end(place)

        def done() -> bool:
            self.tick()
            return not outputs.busy and not self.carrier.busy

        whole = linger(done) if not hard else done()
        broken_off = self._worked_in if self._resumed else outputs.regained
        tags = [*([self.stager.places.settings.tag] if self._resumed or broken_off else []), *self._dead]
        if whole and tags:
            sweep = threading.Thread(target=self._remove_leftovers, args=(sorted(broken_off), tags), name="leftovers", daemon=True)
            sweep.start()
            linger(lambda: not sweep.is_alive())
        if whole and self.options.checksum_file and self.stager.outputs:
            self._write_sums(linger)
        if (more := self.carrier.replaced - REPLACED_SHOWN) > 0:
            were, have = ("file was", "has") if more == 1 else ("files were", "have")
            self.note("warning", f"and {more} more {were} there with other content and {have} been replaced (--no-replace keeps them)")
        failed = list(outputs.failed.items())
        for (place, name), why in failed[:FAILURES_SHOWN]:
            self.note("error", f"{name}{f' on {place}' if place and '://' not in name else ''} was not delivered: {why}")
        if len(failed) > FAILURES_SHOWN:
            self.note("error", f"and {len(failed) - FAILURES_SHOWN} more were not delivered")
        if whole and not failed and code == ExitCode.OK:
            for staging in outputs.barren:
                self.note("warning", f"line {staging.line}: no file matches {staging.source}; nothing was delivered")
        self.undelivered = bool(failed) or not whole
        return ExitCode.STOPPED if self.undelivered and code in (ExitCode.OK, ExitCode.TASKS_FAILED) else code

    def _write_sums(self, linger: Callable[[Callable[[], bool]], bool]) -> None:
        from taskrun.driver import checksum_files

        before = self._interrupted

        def write() -> None:
            failed = checksum_files.write(
                self.stager.places, list(self.stager.outputs), self.carrier.spool, lambda: self._interrupted > before
            )
            self.outputs.failed.update({("", name): why for name, why in failed.items()})
            self.carrier.wake()

        writer = threading.Thread(target=write, name="checksums", daemon=True)
        writer.start()
        linger(lambda: not writer.is_alive())

    def _remove_leftovers(self, places: list[str], tags: list[str]) -> None:
        before = self._interrupted
        remove_leftovers(self._stagings, self.stager.places, places, tags, lambda: self._interrupted > before)
        self.carrier.wake()

    def clean(self, started: float, taskfile: Path | None, unfinished: str, over: Callable[[], bool]) -> bool:
        """Remove files as --clean says. Return False if a copy at a destination has gone with them.

        `started`: epoch seconds; older files are not of this run, nor of those that it carries on. `unfinished`: why the run is not
        complete, '' if all of its tasks have ended well. `over`: a signal has come.
        """
        mode = self.options.clean
        if mode == "keep":
            return True
        from taskrun.driver import cleaning

        for staging in self.outputs.barren:
            unfinished = unfinished or f"no file matches {staging.source} of line {staging.line}"
        if unfinished and mode == "all":
            self.note("warning", f"--clean all: nothing was removed: {unfinished}")
            return True
        if unfinished and mode == "encrypted":
            self.note("warning", f"--clean encrypted: only inputs and outputs are looked at, not what else may be cleartext: {unfinished}")
        stager = self.stager
        inputs, outputs = stager.inputs, [each for each in stager.outputs if each not in self._before.outputs or self._leads_to(each)]
        scope = cleaning.Scope(
            mode,
            [*self._before.spans, Span(started, math.inf, str(self._prefix))],
            taskfile,
            inputs,
            outputs,
            {*self._before.inputs, *self._before.outputs, *(each for each in (*inputs, *outputs) if each.how == "known")},
            None if unfinished else self._was_there,
        )
        found = cleaning.plans(scope, stager.places, self.note, over, self.options.lost_after)
        return cleaning.clean(scope, stager.places, found, self.note, over)

    def _leads_to(self, delivery: Delivery) -> bool:
        """Return whether a STAGE line names the store in which a record of an earlier run places an output: no other one is asked."""
        places = self.stager.places
        named = [places.of(staging.dest) for staging in self._stagings if staging.way == "out"]
        with contextlib.suppress(Refused):
            dest = places.recorded(delivery.dest)
            return any(each.kind == dest.kind and ("$" in each.where or each.where == dest.where) for each in named)
        return False

    def close(self) -> None:
        self.carrier.close()
        self.porter.let_all_go()

    def write_manifest(self, *, run_id: str, host: str, started: float, exit_code: int, counts: dict[str, int]) -> None:
        """Raises RecordsFailed."""
        account = manifest.Account(
            run_id=run_id,
            job=self._prefix.name,
            host=host,
            started=started,
            ended=time.time(),
            exit_code=exit_code,
            counts=counts,
            resources={"cpu_seconds": round(self.porter.cpu_seconds, 3), "peak_memory_bytes": self.porter.peak_memory},
            inputs=manifest.latest(self.stager.inputs),
            outputs=manifest.latest(self.stager.outputs),
        )
        manifest.write(names.with_suffix(self._prefix, names.MANIFEST), account)


def _file_of(descriptor: int) -> Path | None:
    """Return the file that standard output or error goes to, such as the output file of a SLURM job; None for a terminal or pipe."""
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Path(f"/proc/self/fd/{descriptor}").readlink()
    return None


def _is_same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return False


def tally_text(tally: Tally) -> str:
    """`1.2 GiB of 2.0 GiB, 724.5 MiB/s, about 1 s to go`."""
    rate, left = tally.rate(), tally.left()
    text = f"{size_text(tally.done_bytes)} of {size_text(tally.bytes)}"
    return text + (f", {size_text(int(rate))}/s" if rate else "") + (f", about {left:.0f} s to go" if left else "")
