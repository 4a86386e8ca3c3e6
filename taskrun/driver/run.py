"""One run, from what was asked for to its exit code: the only place that knows everybody."""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskrun import __version__
from taskrun.driver import edited, elsewhere, files, held, lineage, remains, starts
from taskrun.driver.account import Account, OnRecord, account
from taskrun.driver.claim import Claim, check_newest, with_all_ancestors
from taskrun.driver.contexts import Engines, choose_engines
from taskrun.driver.drive import Drive
from taskrun.driver.file_supply import FileSupply
from taskrun.driver.growth import Growth
from taskrun.driver.log import LEVELS, Log
from taskrun.driver.loop import Signals
from taskrun.driver.notes import Notes
from taskrun.driver.requeue import end_in_order, own_status
from taskrun.driver.source import color_wanted, open_source
from taskrun.driver.supply import Foreseen, StreamSupply, find_mismatches
from taskrun.engines import allocation
from taskrun.errors import ExitCode, RecordsFailed, Refused, told
from taskrun.language import render_all
from taskrun.observers.console import Console
from taskrun.observers.remains import Remains
from taskrun.observers.summary import Ending, command_line, summary_lines
from taskrun.options import Options, without_values
from taskrun.planning.gone import gone_text
from taskrun.planning.resume import Resume
from taskrun.scheduling.scheduler import TASK_LIMIT, UNFIT
from taskrun.status import chain, names, opening, owner, rescue, sidecar, trust
from taskrun.status.carried import CarriedFile
from taskrun.status.events import EventsWriter
from taskrun.status.reader import StatusIndex
from taskrun.status.record import HEADER
from taskrun.status.writer import StatusWriter

if TYPE_CHECKING:
    pass


def open_records(options: Options, say: Callable[[str], None]) -> list[StatusIndex]:
    """The status files of -r; somebody else may have written none of them, nor their events. Raises Refused, Untrusted."""
    indexes = []
    for name in options.resume_from:
        status = files.absolute(name)
        with contextlib.suppress(OSError):  # read later on, refused now
            trust.opened(names.with_suffix(names.prefix_of(status), names.EVENTS)).close()
        index = StatusIndex(status)
        for note in index.notes():
            say(note)
        indexes.append(index)
    return indexes


def working_directory() -> str:
    """Raises Refused when it is gone."""
    try:
        return os.getcwd()  # noqa: PTH109 - a name that is not UTF-8 stays as it is
    except OSError as error:
        raise Refused(f"the working directory is gone ({os.strerror(error.errno or 0)}): change to one that exists") from None


class Run:
    """The run of one task file. `go` returns its exit code; raises Refused before anything has run."""

    def __init__(
        self, taskfile: str, options: Options, argv: list[str], earlier: sidecar.Sidecar | None, stream_name: str | None, typed_in: str
    ) -> None:
        """`typed_in`: the folder of the person's shell, which a run that is carried on from elsewhere does not run in."""
        self.options = options
        opening.set_mode(int(options.file_mode, 8))
        self.argv = without_values(argv)
        self.earlier = earlier
        self.run_id = f"{time.strftime('%y%m%d%H%M%S')}-{os.urandom(5).hex()}"
        self.started = time.time()
        self.began = time.monotonic()  # the clock of the machine may be set while the run goes
        self.cwd = working_directory()
        self.typed_in = typed_in
        self.stack = contextlib.ExitStack()
        self.requeued = self.find_own(taskfile, stream_name)
        self.source = open_source(taskfile, options)
        self.stack.callback(self.source.lists.close)
        if self.source.text is not None:
            self.stack.callback(self.source.text.close)
        if stream_name:
            self.source = self.source._replace(name=stream_name)
        self.console = Console(options.quiet)
        self.console.on_failure = lambda text: self.log.write("WARNING", text)
        self.notes = Notes(lambda text: self.console.say(told(text)))
        self.log = Log(None, options.loglevel)  # until its file is opened
        self.resume: Resume | None = None
        self.foreseen: Foreseen | None = None
        self.carried: CarriedFile | None = None  # what a new status file begins with
        self.code = ExitCode.OK
        self.before: OnRecord | None = None  # of a regular file
        self.idle_starts = starts.IdleStarts()
        self.later: edited.LaterLines | None = None  # what the sidecar is to say of a long task file
        self.growth = Growth(self)
        self.drive = Drive(self)

    def say(self, text: str, *, always: bool = False) -> None:
        self.log.write("INFO", text)
        if always or not self.options.quiet:
            self.console.say(told(text))

    def go(self) -> ExitCode:
        self.stack.callback(self.console.close)
        self.stack.callback(self.notes.flush)
        self.last = self.stack.enter_context(contextlib.ExitStack())  # what ends after all that is in order
        with contextlib.closing(self):
            with self.stack:
                code = self._go()
            if code == ExitCode.STOPPED and self.resumes_alone():
                restarts = self.options.restarts if self.options.requeue else None
                end_in_order(allocation.job_id(os.environ), restarts, self.say_last, self.hopeless())
        return code

    def close(self) -> None:
        self.log.close()

    def say_last(self, text: str) -> None:
        """Print to stderr and to the log when the view is closed."""
        self.log.write("INFO", text)
        sys.stderr.write(told(text) + "\n")

    def hopeless(self) -> str:
        """Return the reason why this job would get no further in another start, '' if it may."""
        if not self.drive.recorder.tried and self.drive.scheduler.ends:
            return "no task would end before this job does, so it is not started again: submit it anew with more --time to carry on"
        return starts.SAID if self.idle_starts.is_hopeless else ""

    def resumes_alone(self) -> bool:
        """It was stopped in a SLURM job, by what another start of the job may not meet again."""
        person = self.drive.scheduler.stop_why in (TASK_LIMIT, UNFIT, signal.SIGINT.name)
        broken = self.drive.supply is not None and self.drive.supply.broken
        return bool(allocation.job_id(os.environ)) and self.source.path is not None and not person and not broken

    def file_changed(self) -> bool:
        """The task file is not any more what was scanned."""
        return isinstance(self.drive.supply, FileSupply) and self.drive.supply.changed

    def _go(self) -> ExitCode:
        options = self.options
        scan = self.source.scan
        if scan is not None and scan.warnings and not options.quiet:
            sys.stderr.write(render_all(scan.diagnostics, self.source.shown, scan.errors, scan.warnings, color_wanted()))
        engines, warnings = choose_engines(options, was_slurm=self.earlier is not None and self.earlier.was_slurm)
        for warning in warnings + self.source.lists.take_notes():
            self.say(warning)
        if self.requeued is not None:
            self.say(f"SLURM has started this job again: it goes on with {self.shown(self.requeued)}")
        given = [files.absolute(name) for name in options.resume_from]
        every = with_all_ancestors(options.resume_from)
        if every:
            options.set("resume_from", list(map(str, every)), options.origins["resume_from"])
        self.claim = claim = Claim(
            options, self.run_id, self.started, Path(self.cwd), self.source.name, self.requeued is not None, self.say
        )
        self.elsewhere = elsewhere.left_by(every, time.time())
        self.limits = lineage.limits(every)  # before the sidecar of one that is continued is replaced
        self.stack.callback(claim.release)
        claim.take()
        check_newest(options, given, self.say, self.shown)
        self.prefix, self.status_path, self.append = claim.prefix, claim.status_path, claim.append
        if self.requeued is not None:
            self.idle_starts = starts.before(self.requeued)
        indexes = open_records(options, self.say)
        for index in indexes:
            self.stack.enter_context(index)
        if indexes:
            continued = next((each for each in indexes if self.append and each.path.samefile(self.status_path)), None)
            self.resume = Resume(
                indexes,
                retry=options.retry,
                force=options.force_resume,
                match=options.match,
                continued=continued,
                own=self.requeued is not None,
            )
            if self.source.text is not None:
                carry = None
                earlier = edited.earlier_file(options, self.source.text, own=self.requeued is not None)
                if not self.append:
                    self.carried = CarriedFile(self.status_path)
                    self.stack.callback(self.carried.discard)
                    if options.status_header:
                        self.carried.write([HEADER])
                    carry = self.carried.write
                text, before = find_mismatches(
                    self.source.text,
                    self.source.lists,
                    self.resume,
                    carry,
                    earlier.unrun if earlier is not None else None,
                    ignore_unknown=options.ignore_unknown,
                )
                if text and not options.force_resume:
                    raise Refused(text)
                if text := gone_text(before.gone, self.source.name, "" if self.append else self.status_path.name):
                    self.say(text)
                if earlier is not None and (added := earlier.look()):
                    self.say(added)
                self.before = before.counts
                self.foreseen = before if carry is not None else None
        elif scan is not None:
            self.before = OnRecord(0, 0, scan.tasks)
        for path in remains.remove(every, [each.path for each in claim.locks]):
            self.log.write("INFO", f"{path} was removed: a killed run had left it")
        return self.with_files(engines)

    # files

    def find_own(self, taskfile: str, stream_name: str | None) -> Path | None:
        """In a SLURM job that was started again: its status file, and the options that go on with it."""
        options = self.options
        name = stream_name or files.run_name(taskfile)
        status = own_status(options, name, files.job_id(os.environ, self.started), self.argv, Path(self.cwd))
        if status is None or str(status) in map(str, map(files.absolute, options.resume_from)):
            return None
        options.set("prefix", str(names.prefix_of(status)), "requeue")
        options.set("resume_from", [*options.resume_from, str(status)], "requeue")
        return status

    def with_files(self, engines: Engines) -> ExitCode:
        options = self.options
        self.errors: list[Exception] = []
        self.selector = selectors.DefaultSelector()
        self.stack.callback(self.selector.close)
        self.signals = Signals(self.selector)  # from here on there are files to leave in order
        self.last.callback(self.signals.close)  # a second Ctrl-C at the very end leaves no lock behind
        events_path = names.with_suffix(self.prefix, names.EVENTS)
        taken = "" if self.append else opening.taken_by(events_path)
        if taken:
            raise Refused(f"{events_path} {taken}: remove it, or give another prefix with -p")
        self.open_log()
        status, events = self.open_files() if self.append else (None, None)  # one that cannot be continued keeps its sidecar, too
        self.sidecar = self.make_sidecar(engines)
        try:
            self.sidecar.write(names.with_suffix(self.prefix, names.SIDECAR))  # no status file without one
            if self.carried is not None:
                self.carried.publish()
        except RecordsFailed as error:  # nothing has run
            if status is not None and events is not None:
                status.close()
                events.close()
            self.leave_nothing()
            raise Refused(str(error)) from None
        if status is None or events is None:
            try:
                status, events = self.open_files()
            except (Refused, trust.Untrusted):
                self.leave_nothing()
                raise
        if status.torn:
            self.say("the last line of the status file was torn: it was cut off, its task runs again")
        try:
            code = self.drive.go(engines, status, events)
        except (Refused, trust.Untrusted):  # a stream whose first lines are wrong, or no engine can be had: nothing was run, nothing stays
            status.close()
            events.close()
            self.leave_nothing()
            if not self.append:
                self.drive.leave_nothing()
            raise
        except RecordsFailed as error:
            problems = [error]
            for file in (status, events):
                try:
                    file.close()
                except RecordsFailed as other:
                    problems.append(other)
            self.end_sidecar(ExitCode.RECORDS, quiet=True)
            raise rescue.together(problems) from error
        try:
            status.close()
        finally:
            events.close()
        self.end_sidecar(code)
        self.growth.tell_at_end()
        shown = not options.quiet or code not in (ExitCode.OK, ExitCode.TASKS_FAILED)
        for line in summary_lines(self.ending(code)):
            if line.startswith("taskrun: "):
                self.log.write("INFO", line.removeprefix("taskrun: "))
            if shown:
                self.console.say(line)
        return code

    def open_files(self) -> tuple[StatusWriter, EventsWriter]:
        """The status file and the events file, to be written to. Raises Refused, Untrusted."""
        append = self.append or self.carried is not None
        status = StatusWriter(self.status_path, header=self.options.status_header, append=append, on_error=self.errors.append)
        try:
            events = EventsWriter(names.with_suffix(self.prefix, names.EVENTS), append=True, on_error=self.errors.append)
        except BaseException:
            status.close()
            raise
        return status, events

    def leave_nothing(self) -> None:
        """Nothing was run: removes the files that were made for it."""
        if self.append:
            return
        ours = [names.STATUS, names.EVENTS, names.SIDECAR, files.FILES]
        if self.log.made and not self.options.logfile:
            ours.append(names.DRIVER_LOG)
        if isinstance(self.drive.supply, StreamSupply):
            ours.append(files.TASKS)
        for suffix in ours:
            with contextlib.suppress(OSError):
                names.with_suffix(self.prefix, suffix).unlink()

    def open_log(self) -> None:
        early = self.log.take_early()
        path = files.absolute(self.options.logfile) if self.options.logfile else names.with_suffix(self.prefix, names.DRIVER_LOG)
        try:
            self.log = Log(path, self.options.loglevel)
        except OSError as error:
            if self.options.logfile:
                raise Refused(f"--logfile {self.options.logfile}: {error.strerror}") from None
            self.say(f"no log is kept: {path} cannot be written: {error.strerror}")
        self.log.write("INFO", f"taskrun {__version__}, run {self.run_id}: {command_line(self.argv)}")
        for level, text in early:
            self.log.write(level, text)

    def make_sidecar(self, engines: Engines) -> sidecar.Sidecar:
        source = self.source
        task_file = None
        if source.text is not None and source.scan is not None:
            lines = edited.lines_at_once(source.text, source.scan)
            task_file = sidecar.TaskFile(str(source.path), source.scan.sha256, source.scan.size, lines)
            if lines is None:
                self.later = edited.LaterLines(source.text, source.scan)
        extra: dict[str, object] = {"name": source.name, held.USER: os.getuid()}
        extra[sidecar.DATA_TAG] = self.data_tag()
        if self.claim.base:
            extra[chain.KEY] = self.claim.base
        if self.append and str(self.prefix) in self.limits:
            extra[lineage.KEY] = self.limits[str(self.prefix)].to_plain()
        job = owner.slurm_job()
        if job.id:
            extra["slurm"] = list(job)
            extra[starts.KEY] = self.idle_starts.to_plain()
        if self.resume is not None and self.carried is None:
            extra["carried"] = False  # what is skipped gets its S lines as the run goes
        return sidecar.Sidecar(
            run_id=self.run_id,
            version=__version__,
            argv=self.argv,
            cwd=self.cwd,
            status=self.status_path.name,
            contexts=[engines.given] if engines.given else [],
            options=self.options.given(),
            host=socket.gethostname(),
            pid=os.getpid(),
            boot_id=owner.boot_id(),
            started=self.started,
            task_file=task_file,
            stream_complete=None if task_file else False,
            counts=self.before.counts() if self.before is not None else {},
            resumed_from=[str(files.absolute(name)) for name in self.options.resume_from],
            extra=extra | {elsewhere.KEY: self.elsewhere.to_plain()},
        )

    def data_tag(self) -> str:
        for name in self.options.resume_from:
            with contextlib.suppress(Refused):
                tag = sidecar.load(sidecar.find(files.absolute(name))).extra.get(sidecar.DATA_TAG)
                if tag is not None:
                    return str(tag)
        return hashlib.sha256(self.run_id.encode()).hexdigest()[:8]

    def keep_lines(self) -> None:
        """Every second: what the sidecar is to say of the lines of a long task file, as soon as that is known."""
        lines = self.later.step() if self.later is not None else None
        if lines is not None and self.sidecar.task_file is not None:
            self.sidecar.task_file.lines = lines
            with contextlib.suppress(RecordsFailed):  # a resume can do without; records that cannot be kept are noticed where they are
                self.sidecar.write(names.with_suffix(self.prefix, names.SIDECAR))

    def end_sidecar(self, code: ExitCode, *, quiet: bool = False) -> None:
        scheduler = self.drive.scheduler
        if starts.KEY in self.sidecar.extra:
            ended = scheduler.counts.done > 0 or self.drive.recorder.saved
            size = starts.size_of(self.status_path)
            self.idle_starts = self.idle_starts.after(size, ended=ended, at_limit=self.drive.at_limit)
            self.sidecar.extra[starts.KEY] = self.idle_starts.to_plain()
        self.sidecar.ended = time.time()
        self.sidecar.exit_code = int(code)
        self.sidecar.counts = self.account(over=True).counts(scheduler.counts.failed)
        self.sidecar.counts["left_behind"] = self.drive.recorder.left_behind
        if isinstance(self.drive.supply, StreamSupply):
            self.sidecar.stream_complete = self.drive.supply.complete
        if self.later is not None and self.sidecar.task_file is not None:
            self.sidecar.task_file.lines = self.later.finish()
        left = elsewhere.after(self.run_id, self.elsewhere, self.drive.crew.may_live_on())
        self.sidecar.extra[elsewhere.KEY] = left.to_plain()
        if "carried" in self.sidecar.extra:
            self.sidecar.extra["carried"] = scheduler.exit_code(count_failures=False) == ExitCode.OK
        try:
            self.sidecar.write(names.with_suffix(self.prefix, names.SIDECAR))
        except RecordsFailed:
            if not quiet:
                raise

    def add_given(self, given: dict[str, Any]) -> None:
        """A context that has come while the run went on, or of which there is more to say."""
        if not any(each is given for each in self.sidecar.contexts):
            self.sidecar.contexts.append(given)
        self.sidecar.write(names.with_suffix(self.prefix, names.SIDECAR))

    def note(self, level: str, text: str, host: str = "") -> None:
        """Write a note about an engine, or about `host`, to the log, and print it when it matters."""
        if level == "notice":
            self.say(f"{host}: {text}" if host else text)
            return
        level = level.upper() if level.upper() in LEVELS else "WARNING"
        self.log.write(level, f"{host}: {text}" if host else text)
        if level in ("WARNING", "ERROR", "CRITICAL"):
            if host:
                self.notes.add(host, text)
            else:
                self.console.say(told(text))

    # the end

    def account(self, *, over: bool) -> Account:
        """`over`: the run has come to its end."""
        return account(self.drive.scheduler, self.before, over=over)

    def ending(self, code: ExitCode) -> Ending:
        scheduler = self.drive.scheduler
        counts, tasks = scheduler.counts, self.account(over=True)
        return Ending(
            code=code,
            done=tasks.done,
            skipped=tasks.skipped,
            failed=tasks.failed,
            left=tasks.left or 0,
            finished=tasks.finished,
            given_up=counts.given_up,
            per_engine_failed=counts.per_engine_failed,
            seconds=time.monotonic() - self.began,
            status=self.shown(self.status_path),
            failures=self.drive.recorder.failures,
            more_failures=counts.failed + counts.per_engine_failed - len(self.drive.recorder.failures),
            check_failed=scheduler.check_failed,
            stopped=scheduler.stop_why,
            unread=isinstance(self.drive.supply, StreamSupply) and not self.drive.supply.complete,
            broken=self.drive.supply.broken if self.drive.supply is not None else "",
            undelivered=self.drive.undelivered,
            variables=tuple(self.options.valued()),
            by_host=self.drive.recorder.by_node,
            changed=self.file_changed(),
            remains=self.remains(),
        )

    def remains(self) -> Remains:
        count, outlivers = self.drive.crew.outliving.look()
        events = self.shown(names.with_suffix(self.prefix, names.EVENTS))
        return Remains(self.drive.recorder.left_behind, self.options.leftovers != "keep", count, tuple(outlivers), events)

    def shown(self, path: Path) -> str:
        """A path as the person can type it."""
        return files.shown(path, self.typed_in)
