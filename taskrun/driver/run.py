"""One run, from what was asked for to its exit code: the only place that knows everybody."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import selectors
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskrun import __version__
from taskrun.driver import elsewhere, files
from taskrun.driver.attach import Door
from taskrun.driver.claim import Claim, with_all_ancestors
from taskrun.driver.contexts import Engines, carried_environment, choose_engines, driver_node
from taskrun.driver.crew import Crew
from taskrun.driver.gate import Gate
from taskrun.driver.log import LEVELS, Log
from taskrun.driver.loop import Loop, Signals
from taskrun.driver.member import Member
from taskrun.driver.picture import Picture
from taskrun.driver.porter import Porter
from taskrun.driver.recorder import Recorder
from taskrun.driver.requeue import end_in_order, own_status
from taskrun.driver.retire import SLURM_COMMAND, Retirement
from taskrun.driver.source import color_wanted, open_source
from taskrun.driver.supply import FileSupply, Foreseen, StreamSupply, Supply, find_mismatches
from taskrun.driver.visits import Visits
from taskrun.engines import allocation
from taskrun.errors import ExitCode, RecordsFailed, Refused
from taskrun.language import render_all
from taskrun.observers.console import Console
from taskrun.observers.progress import Progress
from taskrun.observers.summary import Ending, command_line, summary_lines
from taskrun.options import Options
from taskrun.planning.resume import Resume
from taskrun.scheduling import messages as m
from taskrun.scheduling.scheduler import TASK_LIMIT, Policy, Scheduler
from taskrun.status import names, owner, rescue, sidecar
from taskrun.status.carried import CarriedFile
from taskrun.status.events import EventsWriter
from taskrun.status.reader import StatusIndex
from taskrun.status.record import HEADER
from taskrun.status.writer import StatusWriter

if TYPE_CHECKING:
    from taskrun.driver.data import Data

BEAT_SHARE = 2 / 3  # a slot gives up after this share of the silence after which the driver does (A of B)
ENGINES_SECONDS = 300.0  # how long a run without an engine waits for one, unless all were to be on this machine
DATA_TAG = "data_tag"  # in the sidecar: what unfinished files of this run, and of those it carries on, are called
LENGTHS_SHOWN = 32  # tasks of the last batch whose lengths the view may see


def open_records(options: Options, say: Callable[[str], None]) -> list[StatusIndex]:
    indexes = []
    for name in options.resume_from:
        index = StatusIndex(files.absolute(name))
        for note in index.notes():
            say(note)
        indexes.append(index)
    return indexes


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - a name that is not UTF-8 stays as it is
    except OSError as error:
        raise Refused(f"the working directory is gone ({os.strerror(error.errno or 0)}): change to one that exists") from None


class Run:
    """The run of one task file. `go` returns its exit code; raises Refused before anything has run."""

    def __init__(self, taskfile: str, options: Options, argv: list[str], earlier: sidecar.Sidecar | None, stream_name: str | None) -> None:
        self.options = options
        self.argv = argv
        self.earlier = earlier
        self.run_id = f"{time.strftime('%y%m%d%H%M%S')}-{os.urandom(5).hex()}"
        self.started = time.time()
        self.cwd = _working_directory()
        self.stack = contextlib.ExitStack()
        self.requeued = self.find_own(taskfile, stream_name)
        self.source = open_source(taskfile, options)
        self.stack.callback(self.source.lists.close)
        if stream_name:
            self.source = self.source._replace(name=stream_name)
        self.console = Console(options.quiet)
        self.console.on_failure = lambda text: self.log.write("WARNING", text)
        self.log = Log(None, options.loglevel)  # until its file is opened
        self.resume: Resume | None = None
        self.foreseen: Foreseen | None = None
        self.carried: CarriedFile | None = None  # what a new status file begins with
        self.code = ExitCode.OK
        self.gate: Gate | None = None
        self.leave_nothing: Callable[[], None] = lambda: None  # of engines, when nothing has run
        self.total_left: int | None = None
        self.waiting = ""
        self.door: Door | None = None
        self.supply: Supply | None = None

    def say(self, text: str, *, always: bool = False) -> None:
        self.log.write("INFO", text)
        if always or not self.options.quiet:
            self.console.say(f"taskrun: {text}")

    def go(self) -> ExitCode:
        self.stack.callback(self.console.close)
        with self.stack:
            code = self._go()
        if code == ExitCode.STOPPED and self.resumes_alone():
            end_in_order(allocation.job_id(os.environ), self.options.requeue, lambda text: sys.stderr.write(f"taskrun: {text}\n"))
        return code

    def resumes_alone(self) -> bool:
        """It was stopped in a SLURM job, by what another start of the job may not meet again."""
        person = self.scheduler.stop_why in (TASK_LIMIT, signal.SIGINT.name)
        return bool(allocation.job_id(os.environ)) and self.source.path is not None and not person

    def _go(self) -> ExitCode:
        options = self.options
        scan = self.source.scan
        if scan is not None and scan.warnings and not options.quiet:
            sys.stderr.write(render_all(scan.diagnostics, self.source.shown, scan.errors, scan.warnings, color_wanted()))
        engines, warnings = choose_engines(options, was_slurm=self.was_slurm())
        for warning in warnings + self.source.lists.take_notes():
            self.say(warning)
        if self.requeued is not None:
            self.say(f"SLURM has started this job again: it goes on with {self.shown(self.requeued)}")
        every = with_all_ancestors(options.resume_from)
        if every:
            options.set("resume_from", list(map(str, every)), options.origins["resume_from"])
        self.claim = claim = Claim(
            options, self.run_id, self.started, Path(self.cwd), self.source.name, self.requeued is not None, self.say
        )
        self.elsewhere = elsewhere.left_by(every, time.time())
        self.stack.callback(claim.release)
        claim.take()
        self.prefix, self.status_path, self.append = claim.prefix, claim.status_path, claim.append
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
            if self.source.path is not None:
                carry = None
                if not self.append:
                    self.carried = CarriedFile(self.status_path)
                    self.stack.callback(self.carried.discard)
                    if options.status_header:
                        self.carried.write([HEADER])
                    carry = self.carried.write
                text, self.total_left, before = find_mismatches(
                    self.source.path, self.source.lists, self.resume, carry, ignore_unknown=options.ignore_unknown
                )
                if text and not options.force_resume:
                    raise Refused(text)
                self.foreseen = before if carry is not None else None
        elif scan is not None:
            self.total_left = scan.tasks
        return self.with_files(engines)

    # files

    def find_own(self, taskfile: str, stream_name: str | None) -> Path | None:
        """In a SLURM job that was started again: its status file, and the options that go on with it."""
        options = self.options
        name = stream_name or ("stdin" if taskfile == "-" else files.absolute(taskfile).name)
        status = own_status(options.prefix, name, files.job_id(os.environ, self.started), self.argv, Path(self.cwd))
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
        self.stack.callback(self.signals.close)
        self.open_log()
        self.sidecar = self.make_sidecar(engines)
        try:
            self.sidecar.write(names.with_suffix(self.prefix, names.SIDECAR))  # no status file without one
            if self.carried is not None:
                self.carried.publish()
        except RecordsFailed as error:  # nothing has run
            raise Refused(str(error)) from None
        append = self.append or self.carried is not None
        status = StatusWriter(self.status_path, header=options.status_header, append=append, on_error=self.errors.append)
        try:
            events = EventsWriter(names.with_suffix(self.prefix, names.EVENTS), append=True, on_error=self.errors.append)
        except BaseException:
            status.close()
            raise
        if status.torn:
            self.say("the last line of the status file was torn: it was cut off, its task runs again")
        try:
            code = self.drive(engines, status, events)
        except Refused:  # a stream whose first lines are wrong, or no engine can be had: nothing was run, nothing stays
            status.close()
            events.close()
            if not self.append:
                ours = [names.STATUS, names.EVENTS, names.SIDECAR, files.FILES, files.DRIVER_LOG]
                if isinstance(self.supply, StreamSupply):
                    ours.append(files.TASKS)
                for suffix in ours:
                    names.with_suffix(self.prefix, suffix).unlink(missing_ok=True)
                self.leave_nothing()
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
        if not options.quiet or code not in (ExitCode.OK, ExitCode.TASKS_FAILED):
            for line in summary_lines(self.ending(code)):
                self.console.say(line)
        return code

    def open_log(self) -> None:
        path = files.absolute(self.options.logfile) if self.options.logfile else names.with_suffix(self.prefix, files.DRIVER_LOG)
        try:
            self.log = Log(path, self.options.loglevel)
        except OSError as error:
            if self.options.logfile:
                raise Refused(f"--logfile {self.options.logfile}: {os.strerror(error.errno or 0)}") from None
        self.stack.callback(self.log.close)
        self.log.write("INFO", f"taskrun {__version__}, run {self.run_id}: {command_line(self.argv)}")

    def make_sidecar(self, engines: Engines) -> sidecar.Sidecar:
        source = self.source
        task_file = None
        if source.path is not None and source.scan is not None:
            task_file = sidecar.TaskFile(str(source.path), source.scan.sha256, source.scan.size)
        extra: dict[str, object] = {"name": source.name}
        extra[DATA_TAG] = self.data_tag()
        job = owner.slurm_job()
        if job.id:
            extra["slurm"] = list(job)
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
            resumed_from=[str(files.absolute(name)) for name in self.options.resume_from],
            extra=extra | {elsewhere.KEY: self.elsewhere.to_plain()},
        )

    def data_tag(self) -> str:
        for name in self.options.resume_from:
            with contextlib.suppress(Refused):
                tag = sidecar.load(sidecar.find(files.absolute(name))).extra.get(DATA_TAG)
                if isinstance(tag, str) and tag.isalnum():
                    return tag
        return hashlib.sha256(self.run_id.encode()).hexdigest()[:8]

    def end_sidecar(self, code: ExitCode, *, quiet: bool = False) -> None:
        scheduler = self.scheduler
        counts = scheduler.counts
        self.sidecar.ended = time.time()
        self.sidecar.exit_code = int(code)
        self.sidecar.counts = {"done": counts.done, "failed": counts.failed, "skipped": counts.skipped}
        if isinstance(self.supply, StreamSupply):
            self.sidecar.stream_complete = self.supply.complete
        left = elsewhere.after(self.run_id, self.elsewhere, self.crew.may_live_on())
        self.sidecar.extra[elsewhere.KEY] = left.to_plain()
        if "carried" in self.sidecar.extra:
            self.sidecar.extra["carried"] = scheduler.exit_code(count_failures=False) == ExitCode.OK
        try:
            self.sidecar.write(names.with_suffix(self.prefix, names.SIDECAR))
        except RecordsFailed:
            if not quiet:
                raise

    # the run itself

    def make_supply(self) -> Supply:
        source = self.source
        ignore = self.options.ignore_unknown
        source.lists.save(names.with_suffix(self.prefix, files.FILES))
        if source.path is not None:
            return FileSupply(source.path, source.lists, self.resume, self.foreseen, ignore_unknown=ignore)
        copy = names.with_suffix(self.prefix, files.TASKS)
        if self.append:
            with contextlib.suppress(FileNotFoundError):
                copy.unlink()
        try:
            return StreamSupply(source.fd, source.shown, copy, source.lists, self.resume, self.console.say, ignore_unknown=ignore)
        except RecordsFailed as error:  # nothing has run
            raise Refused(str(error)) from None

    def drive(self, engines: Engines, status: StatusWriter, events: EventsWriter) -> ExitCode:
        options = self.options
        policy = Policy(
            fail_fast=options.fail_fast,
            grace=options.grace,
            lost_after=options.lost_after,
            wait_for_engines=self.engine_patience(engines),
            open_ended=options.startup_only,
        )
        self.scheduler = scheduler = Scheduler(policy)
        self.supply = supply = self.make_supply()
        members: dict[str, str] = {}
        self.recorder = recorder = Recorder(status, events, lambda engine: members.get(engine, engine), self.carried is not None)
        selector = self.selector
        loop = Loop(scheduler, supply, recorder, self, selector)
        loop.failures = self.errors
        events.event("run", self.started, what="start", run_id=self.run_id, version=__version__)

        def joined(member: Member) -> None:
            members[member.name] = member.request.host
            self.retirement.came_back(member.request.host)
            known = {name: member.facts.get(name) for name in ("host", "cores", "memory", "python", "pid")}
            slots = member.request.slots
            self.log.write("INFO", f"engine {member.name} joined: {known}, {slots} slots started by {member.starter}")
            events.event("engine", time.time(), what="joined", engine=member.name, rank=member.rank, slots=member.request.slots,
                         context=member.context, version=__version__, starter=member.starter, **known)  # fmt: skip

        self.retirement = self.make_retirement(engines)
        config = {
            "run": self.run_id,
            "cwd": self.cwd,
            "lost_after": options.lost_after * BEAT_SHARE,
            "grace": options.grace,
            "starter": options.starter,
            "fail_fast": options.fail_fast,
            "env": {
                "DISBATCH_JOBID": self.prefix.name,
                "DISBATCH_NAMETASKS": self.source.name,
                "TASKRUN_JOBID": self.prefix.name,
                "TASKRUN_NAMETASKS": self.source.name,
            },
            "shipped": self.told_to_others(),
            "share": {
                "gpus": "all" if options.gpu else "",
                "variables": [name for item in options.env_resource for name in item.split(",") if name],
            },
        }
        porter = self.make_gate(loop, events)
        self.stack.callback(self.close_door)
        self.crew = crew = Crew(
            selector,
            loop.post if porter is None else porter.post,
            self.note,
            joined,
            config,
            self.prefix,
            self.claim.held.fileno(),
            options.ssh or "",
            options.require_all,
        )
        self.stack.callback(crew.close)
        self.leave_nothing = lambda: crew.close(keep_logs=False)
        if porter is not None:
            porter.crew = crew
        crew.silence = policy.silence
        self.wait_elsewhere(crew)
        loop.use(crew if porter is None else porter)
        self.begin_data()
        crew.on_left = lambda member: self.retirement.ended(member.request.host, member.agent.code, lost=member.lost_for_good)
        self.door = door = self.open_door(events)
        loop.every_second += [crew.check, self.visits.tick, door.tick, self.claim.touch, self.retirement.step]
        if options.startup_only:
            door.open_now()
            self.say_how_to_attach()
        elif self.total_left is None or self.total_left > 0:
            crew.add_context(self.offer(engines), engines.requests, engines.steps)
            events.event("context", time.time(), what="joined", context=engines.label, hosts=engines.given["hosts"])
        loop.run(self.signals)
        code = scheduler.exit_code(count_failures=options.exit_code)
        if self.gate is not None and self.gate.data is not None:
            code = self.finish_data(self.gate.data, loop, code)
        crew.close()
        self.close_door()
        self.console.leave()
        events.event("run", time.time(), what="end", exit_code=int(code), done=scheduler.counts.done, failed=scheduler.counts.failed,
                     skipped=scheduler.counts.skipped)  # fmt: skip
        return code

    def make_gate(self, loop: Loop, events: EventsWriter) -> Porter | None:
        """Where data is waited for, if there may be some: a stream tells only as it comes."""
        scan = self.source.scan
        if scan is not None and not scan.stages:
            return None
        porter = Porter(loop.post)

        def make() -> Data:
            from taskrun.driver.data import Data
            from taskrun.driver.deliveries import earlier

            before = earlier(map(files.absolute, self.options.resume_from))
            if not self.append:
                before.repeat(lambda kind, **fields: events.event(kind, time.time(), **fields))
            data = Data(
                self.options,
                Path(self.cwd),
                str(self.sidecar.extra[DATA_TAG]),
                self.selector,
                self.note,
                lambda kind, **fields: events.event(kind, time.time(), **fields),
                {
                    f"{word}_{name}": value
                    for word in ("TASKRUN", "DISBATCH")
                    for name, value in (("JOBID", self.prefix.name), ("NAMETASKS", self.source.name))
                },
                before,
                porter,
            )
            self.stack.callback(data.close)
            porter.stager, porter.data = data.stager, data
            data.stager.idle = self.total_left == 0
            data.stager.stop = lambda why: loop.post(m.Told("drain", why))
            loop.every_second.append(data.tick)
            return data

        self.gate = loop.gate = Gate(make)
        return porter

    def begin_data(self) -> None:
        """Of a regular file all is known now. Raises Refused, with nothing moved."""
        scan = self.source.scan
        if self.gate is not None and scan is not None:
            from taskrun.driver.data import stagings_of

            self.gate.open().begin(stagings_of(scan))

    def finish_data(self, data: Data, loop: Loop, code: ExitCode) -> ExitCode:
        """What is left is delivered, while engines can be reached. The manifest; then what --clean may remove.

        Raises RecordsFailed: then nothing is removed.
        """
        hard = any(told.how != "drain" for told in loop.told)
        code = data.finish(code, lambda done: loop.linger(self.signals, done, [self.claim.touch]), hard=hard)
        counts = self.scheduler.counts
        data.write_manifest(
            self.prefix,
            run_id=self.run_id,
            host=socket.gethostname(),
            started=self.started,
            exit_code=int(code),
            counts={"done": counts.done, "failed": counts.failed, "skipped": counts.skipped},
        )
        if code in (ExitCode.OK, ExitCode.TASKS_FAILED):
            data.clean(self.prefix, self.started)
        if summary := data.summary():
            self.say(summary)
        data.close()
        return code

    # contexts that attach

    def open_door(self, events: EventsWriter) -> Door:
        """Raises Refused when --use-address names what cannot be listened on."""
        run = {"run_id": self.run_id, "prefix": self.prefix.name, "started": self.started}
        picture = Picture(run, self.crew, self.scheduler, self.recorder, self.counted)
        self.visits = Visits(self.crew, self.scheduler, picture, events, self.say, self.add_given)
        self.crew.on_changed = self.visits.engine_changed
        return Door(self.prefix, self.run_id, self.options, self.visits, self.selector, self.log.write)

    def close_door(self) -> None:
        if self.door is not None:
            why = self.scheduler.stop_why
            self.visits.close(f"the run has ended ({why})" if why else "the run has ended")
            self.door.close()
            self.door = None

    def add_given(self, given: dict[str, Any]) -> None:
        """A context that has come while the run went on."""
        self.sidecar.contexts.append(given)
        self.sidecar.write(names.with_suffix(self.prefix, names.SIDECAR))

    def say_how_to_attach(self) -> None:
        assert self.door is not None
        prefix = shlex.quote(self.shown(self.prefix))
        self.say(
            f"this run starts no engine; add some with\n  taskrun attach {prefix} -s localhost:4\n"
            f"or {prefix}{names.DBUTIL}{self.door.reach}; on a machine that shares no folder: taskrun attach --help",
            always=True,
        )

    def was_slurm(self) -> bool:
        """The run that is carried on ran on nodes of SLURM."""
        return self.earlier is not None and any(each.get("kind") == "slurm" for each in self.earlier.contexts)

    def make_retirement(self, engines: Engines) -> Retirement:
        options = self.options
        default = SLURM_COMMAND if engines.steps is not None else ""
        command = "" if options.no_retire else default if options.retire_cmd is None else options.retire_cmd
        environ = dict(os.environ)
        keep = ""
        if engines.steps is not None:
            environ["SLURM_JOBID"] = engines.steps.job
            keep = driver_node(engines.requests, os.environ)
        nodes = [each.host for each in engines.requests]
        return Retirement(nodes, keep, command, environ, lambda *said: self.crew.notes.append(said))

    def offer(self, engines: Engines) -> m.ContextJoined:
        """What the scheduler is told of the engines that were asked for."""
        end = engines.steps.end if engines.steps is not None else None
        return m.ContextJoined(
            engines.label,
            max(0, self.options.task_limit),
            end=None if end is None else time.monotonic() + end - time.time(),
            task_time=self.options.task_time,
            gives_back=bool(self.retirement.command),
            keep=self.retirement.driver_node,
            one_fate=engines.steps is not None,
        )

    def wait_elsewhere(self, crew: Crew) -> None:
        """What earlier runs may have left on other hosts ends before anything is started."""
        runs, hosts = self.elsewhere
        if hosts:
            now = time.time()
            crew.earlier = runs
            crew.unsure = {address: time.monotonic() + until - now for address, until in hosts.items()}
            longest = max(hosts.values()) - now
            self.say(f"tasks of the earlier run may still run on {', '.join(hosts)}: waiting for their end, at most {longest:.0f} s")

    def engine_patience(self, engines: Engines) -> float:
        """Seconds to wait with no engine left: on this machine nobody comes back by himself."""
        if self.options.wait_for_engines is not None:
            return float(self.options.wait_for_engines)
        if self.options.startup_only:
            return math.inf
        return 0.0 if engines.given["kind"] == "local" else ENGINES_SECONDS

    def told_to_others(self) -> dict[str, Any]:
        """What agents on other hosts are told beside what all are: where to run, how to know this folder, what to carry along."""
        lock_path = names.with_suffix(self.prefix, names.LOCK)
        elsewhere = lock_path.parent != Path(self.cwd)
        token = {"path": str(lock_path), "text": self.run_id, "inode": os.stat(self.cwd).st_ino if elsewhere else 0}  # noqa: PTH116
        return {"token": token, "workdir": self.options.workdir or "", "env": carried_environment(self.options.env, os.environ)}

    def note(self, level: str, text: str) -> None:
        """Something an engine says: to the log, and to the person when it matters."""
        level = level.upper() if level.upper() in LEVELS else "WARNING"
        self.log.write(level, text)
        if level in ("WARNING", "ERROR", "CRITICAL"):
            self.console.say(f"taskrun: {text}")

    # Watcher

    def tick(self, _: Scheduler) -> None:
        self.console.update(self.progress)

    def wait(self, why: str) -> None:
        self.waiting = why

    def progress(self) -> Progress:
        latest, self.recorder.latest = self.recorder.latest[-LENGTHS_SHOWN:], []
        return self.counted()._replace(ended=tuple(result.elapsed for _, result, _ in latest if result.kind == "task"))

    def counted(self) -> Progress:
        scheduler, recorder = self.scheduler, self.recorder
        counts = scheduler.counts
        return Progress(
            done=counts.done,
            failed=counts.failed + counts.skipped_failed,
            skipped=counts.skipped,
            running=scheduler.running,
            left=None if self.total_left is None else max(0, self.total_left - counts.done),
            slots=sum(member.request.slots for member in self.crew.members.values() if member.available),
            stopping=bool(scheduler.stop_why),
            waiting=self.waiting_for_data() or (f"stopping: {scheduler.stop_why}" if scheduler.stop_why else self.waiting),
            data=self.data_view(),
            failures=tuple(recorder.last_failures),
        )

    def data_view(self) -> str:
        return self.gate.data.view() if self.gate is not None and self.gate.data is not None else ""

    def waiting_for_data(self) -> str:
        return self.gate.data.waiting() if self.gate is not None and self.gate.data is not None else ""

    # the end

    def ending(self, code: ExitCode) -> Ending:
        scheduler = self.scheduler
        counts = scheduler.counts
        scan = self.source.scan
        return Ending(
            code=code,
            done=counts.done,
            skipped=counts.skipped,
            failed=counts.failed + counts.skipped_failed,
            left=scheduler.left if scan is None else max(0, scan.tasks - counts.done - counts.skipped),
            per_engine_failed=counts.per_engine_failed,
            seconds=time.time() - self.started,
            status=self.shown(self.status_path),
            failures=self.recorder.failures,
            more_failures=counts.failed + counts.per_engine_failed - len(self.recorder.failures),
            check_failed=scheduler.check_failed,
            stopped=scheduler.stop_why,
            unread=isinstance(self.supply, StreamSupply) and not self.supply.complete,
            broken=self.supply.broken if self.supply is not None else "",
        )

    def shown(self, path: Path) -> str:
        with contextlib.suppress(ValueError):
            relative = str(path.relative_to(self.cwd))
            return f"./{relative}" if relative.startswith("-") else relative
        return str(path)
