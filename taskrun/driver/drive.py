"""The run under way: scheduler, loop, crew, data and the door for contexts that attach, wired together and driven to their end."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shlex
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskrun import __version__, job
from taskrun.driver import awaited, elsewhere, files
from taskrun.driver.absence import Missed
from taskrun.driver.attach import Door
from taskrun.driver.comment import Comment, text_of
from taskrun.driver.contexts import Engines, carried_environment, driver_node
from taskrun.driver.crew import Crew
from taskrun.driver.file_supply import FileSupply
from taskrun.driver.gate import Gate
from taskrun.driver.job_end import JobEnd
from taskrun.driver.loop import Loop
from taskrun.driver.member import Member
from taskrun.driver.notes import several
from taskrun.driver.picture import Picture
from taskrun.driver.porter import Porter
from taskrun.driver.recorder import Recorder
from taskrun.driver.retire import SLURM_COMMAND, Retirement
from taskrun.driver.sampling import Sampling
from taskrun.driver.supply import StreamSupply, Supply
from taskrun.driver.verdicts import Verdicts
from taskrun.driver.visits import Visits
from taskrun.errors import ExitCode, RecordsFailed, Refused
from taskrun.language import Reader
from taskrun.observers.progress import Progress
from taskrun.scheduling import messages as m
from taskrun.scheduling.scheduler import NO_ENGINE, Policy, Scheduler
from taskrun.scheduling.walltime import ENDS, Walltime
from taskrun.status import names, sidecar
from taskrun.status.events import EventsWriter
from taskrun.status.writer import StatusWriter

if TYPE_CHECKING:
    from taskrun.driver.data import Data
    from taskrun.driver.run import Run
    from taskrun.engines.slurm import Steps

BEAT_SHARE = 2 / 3  # a slot gives up after this share of the silence after which the driver does (A of B)
ENGINES_SECONDS = 300.0  # how long a run without an engine waits for one, unless all were to be on this machine
LENGTHS_SHOWN = 32  # tasks of the last batch whose lengths the view may see


def by_monotonic(when: float) -> float:
    """Epoch seconds in the scheduler's time."""
    return time.monotonic() + when - time.time()


def clock(when: float) -> str:
    """Epoch seconds as a person reads them."""
    return time.strftime("%F %T", time.localtime(when))


class Drive:
    """Everything that lives only while the run `run` is under way."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.gate: Gate | None = None
        self.leave_nothing: Callable[[], None] = lambda: None  # of engines, when nothing has run
        self.waiting = ""
        self.door: Door | None = None
        self.supply: Supply | None = None
        self.label = ""  # of the context that the run brings itself
        self.comment: Comment | None = None
        self.job_end: JobEnd | None = None  # of the SLURM job that the run has its nodes from

    def make_supply(self) -> Supply:
        source = self.run.source
        options = self.run.options
        source.lists.save(names.with_suffix(self.run.prefix, files.FILES))
        if source.text is not None:
            foreseen, before = self.run.foreseen, self.run.before
            return FileSupply(
                source.text,
                source.lists,
                self.run.resume,
                None if foreseen is None else foreseen.codes,
                self.run.growth,
                ignore_unknown=options.ignore_unknown,
                grows=before is None or before.to_run > 0,
            )
        copy = names.with_suffix(self.run.prefix, files.TASKS)
        if self.run.append:
            with contextlib.suppress(FileNotFoundError):
                copy.unlink()
        try:
            reader = Reader(source.shown, ignore_unknown=options.ignore_unknown, strict=options.strict)
            return StreamSupply(source.fd, source.shown, copy, source.lists, self.run.resume, self.run.console.say, reader)
        except RecordsFailed as error:  # nothing has run
            raise Refused(str(error)) from None

    def go(self, engines: Engines, status: StatusWriter, events: EventsWriter) -> ExitCode:
        """The code the run ends with. Raises Refused while nothing has run, RecordsFailed."""
        try:
            loop = self.begin(engines, status, events)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            raise Refused("no descriptor is left for the run: raise `ulimit -n`") from None
        scheduler = self.scheduler
        loop.run(self.run.signals)
        code = scheduler.exit_code(count_failures=self.run.options.exit_code)
        if self.gate is not None and self.gate.data is not None:
            code = self.finish_data(self.gate.data, loop, code)
        if unused := self.crew.unused():
            were, they = ("were", "they") if len(unused) > 1 else ("was", "it")
            self.run.say(f"{several(unused)} {were} not used: {they} had not answered when the run ended")
        self.crew.close()
        self.close_door()
        if self.comment is not None and all(told.how != "kill" for told in loop.told):
            self.comment.close()
        self.run.notes.flush()
        self.run.console.leave()
        events.event("run", time.time(), what="end", exit_code=int(code), done=scheduler.counts.done, failed=scheduler.counts.failed,
                     skipped=scheduler.counts.skipped, stopped=scheduler.stop_why,
                     left_behind=self.recorder.left_behind, outlive=self.crew.outliving.events())  # fmt: skip
        return code

    def begin(self, engines: Engines, status: StatusWriter, events: EventsWriter) -> Loop:
        """Everything is wired together, and the first agents start. Raises Refused, RecordsFailed, OSError."""
        options = self.run.options
        policy = Policy(
            fail_fast=options.fail_fast,
            grace=options.grace,
            lost_after=options.lost_after,
            wait_for_engines=self.engine_patience(engines),
            open_ended=options.startup_only,
            sick_after=options.sick_after,
        )
        self.scheduler = scheduler = Scheduler(policy)
        self.supply = supply = self.make_supply()
        members: dict[str, str] = {}
        self.recorder = recorder = Recorder(status, events, lambda engine: members.get(engine, engine), self.run.carried is not None)
        selector = self.run.selector
        loop = Loop(scheduler, supply, recorder, self, selector)
        loop.failures = self.run.errors
        events.event("run", self.run.started, what="start", run_id=self.run.run_id, version=__version__)

        def joined(member: Member) -> None:
            members[member.name] = member.request.host
            self.is_used(member)
            known = {name: member.facts.get(name) for name in ("host", "cores", "memory", "python", "pid")}
            if member.leftovers != options.leftovers:
                self.run.note(
                    "warning", "its taskrun is older than --leftovers: what tasks leave behind is kept there", member.request.host
                )
            slots = member.request.slots
            self.run.log.write("INFO", f"engine {member.name} joined: {known}, {slots} slots started by {member.starter}")
            events.event("engine", time.time(), what="joined", engine=member.name, rank=member.rank, slots=member.request.slots,
                         context=member.context, version=__version__, starter=member.starter, **known)  # fmt: skip

        self.retirement = self.make_retirement(engines)
        config = {
            "run": self.run.run_id,
            "cwd": self.run.cwd,
            "lost_after": options.lost_after * BEAT_SHARE,
            "grace": options.grace,
            "starter": options.starter,
            "fail_fast": options.fail_fast,
            "stopped_ok": options.stopped_ok,
            "leftovers": options.leftovers,
            "tails": True,
            "env": {
                "DISBATCH_JOBID": self.run.prefix.name,
                "DISBATCH_NAMETASKS": self.run.source.name,
                "TASKRUN_JOBID": self.run.prefix.name,
                "TASKRUN_NAMETASKS": self.run.source.name,
            },
            "shipped": self.told_to_others(),
            "share": {
                "gpus": "all" if options.gpu else "",
                "variables": [name for item in options.env_resource for name in item.split(",") if name],
            },
        }
        porter = self.make_gate(loop, events, engines)
        self.run.stack.callback(self.close_door)
        self.crew = crew = Crew(
            selector,
            loop.post if porter is None else porter.post,
            self.run.note,
            joined,
            config,
            self.run.prefix,
            self.run.claim.held.fileno(),
            options.ssh or "",
            options.require_all,
        )
        self.run.stack.callback(crew.close)
        self.leave_nothing = lambda: crew.close(keep_logs=False)
        if porter is not None:
            porter.crew = crew
        crew.survivors.silence = policy.silence
        self.wait_elsewhere(crew)
        loop.use(crew if porter is None else porter)
        loop.judge(Verdicts(self.run.note, self.run.say, events))
        self.begin_data()

        crew.on_left = self.is_free
        if porter is not None:
            porter.free = self.is_free
            crew.on_left = porter.left
        self.door = door = self.open_door(events)
        if porter is not None:
            self.visits.needed = porter.needs
        loop.on_absent = self.was_absent
        loop.on_suspend = self.is_suspended
        loop.every_second += [crew.check, self.visits.tick, door.tick, self.run.claim.touch, self.retirement.step]
        loop.every_second += [self.run.keep_lines, self.run.notes.step]
        loop.every_second.append(Sampling(crew.members.values, events).tick)
        if options.startup_only:
            door.open_now()
            self.say_how_to_attach()
        elif self.run.before is None or self.run.before.to_run > 0:
            self.label = engines.label
            crew.add_context(self.offer(engines), engines.requests, engines.steps)
            events.event("context", time.time(), what="joined", context=engines.label, hosts=engines.given["hosts"])
            if engines.steps is not None:
                self.job_end = self.make_job_end(engines.label, engines.steps, loop)
                loop.every_second.append(self.job_end.step)
                if not options.no_comment:
                    self.comment = Comment(engines.steps.job, self.comment_text, self.run.log.write)
                    loop.every_second.append(self.comment.step)
                    self.run.stack.callback(self.comment.abandon)
        return loop

    def was_absent(self, missed: Missed) -> None:
        """Report that this process did not run. Raises RecordsFailed when another run has taken the prefix over meanwhile."""
        self.run.claim.touch(at_once=True)
        self.crew.absent(missed.seconds)
        seconds = missed.seconds + missed.asleep
        text = (
            f"this process did not run for {seconds:.0f} s ({'the machine slept' if missed.asleep else 'it was stopped, or had to wait'})"
        )
        if seconds < self.scheduler.policy.orphaned_after:
            self.run.log.write("INFO", text)
        else:
            self.run.say(f"{text}: what its engines have ended meanwhile for want of it runs again")

    def is_suspended(self, on: bool, changed: bool) -> None:
        """Report a suspension by Ctrl-Z, or its end (`on` is False), perhaps without a suspension before."""
        console, front = self.run.console, job.front
        if on:
            console.suspend()
            if changed:
                running = self.scheduler.running
                tasks = f"{running} task{'s'[: running != 1]} go{'es'[: 2 * (running == 1)]} on running" if running else "no task runs"
                tasks += ", nothing new starts"
                if self.scheduler.finished:
                    tasks = "no task is left to run, and what is to be delivered still is"
                how = "`fg` or " if front is not None else "Ctrl-Z again or " if job.toggles() else ""
                pid = os.getpid() if front is None else front.pid
                self.run.say(f"suspended: {tasks}; {how}`kill -CONT {pid}` continues")
            if front is not None:
                front.may_stop()
        else:
            if changed:
                self.run.say("continued")
            console.resume()

    def make_gate(self, loop: Loop, events: EventsWriter, engines: Engines) -> Porter | None:
        """Where data is waited for, if there may be some: a stream tells only as it comes. `engines`: that were asked for."""
        scan = self.run.source.scan
        if scan is not None and not scan.stages:
            return None
        porter = Porter(loop.post)

        def make() -> Data:
            from taskrun.driver.data import Data
            from taskrun.driver.deliveries import earlier
            from taskrun.driver.guarding import guard_of
            from taskrun.engines.slurm import StepHost

            before = earlier(map(files.absolute, self.run.options.resume_from), self.run.limits)
            if not self.run.append:
                before.repeat(lambda kind, **fields: events.event(kind, time.time(), **fields))
            data = Data(
                self.run.options,
                Path(self.run.cwd),
                str(self.run.sidecar.extra[sidecar.DATA_TAG]),
                self.run.selector,
                self.run.note,
                lambda kind, **fields: events.event(kind, time.time(), **fields),
                {
                    f"{word}_{name}": value
                    for word in ("TASKRUN", "DISBATCH")
                    for name, value in (("JOBID", self.run.prefix.name), ("NAMETASKS", self.run.source.name))
                },
                before,
                porter,
                {each.host: StepHost(each.host, engines.steps) for each in engines.requests} if engines.steps is not None else {},
                {each.host for each in engines.requests if each.reach != "local"},
                guard_of(self.run),
                self.run.prefix,
            )
            self.run.stack.callback(data.close)
            porter.stager, porter.data = data.stager, data
            known = self.run.before
            data.stager.idle = known is not None and known.to_run == 0 and known.skipped > 0  # without a task its inputs are the work
            data.stager.stop = lambda why: loop.post(m.Told("drain", why))
            loop.every_second.append(data.tick)
            loop.on_told = data.interrupt
            return data

        self.gate = loop.gate = Gate(make)
        return porter

    def begin_data(self) -> None:
        """Of a regular file all is known now. Raises Refused, with nothing moved."""
        scan = self.run.source.scan
        if self.gate is not None and scan is not None:
            from taskrun.driver.data import stagings_of

            self.gate.open().begin(stagings_of(scan))

    def finish_data(self, data: Data, loop: Loop, code: ExitCode) -> ExitCode:
        """What is left is delivered, while engines can be reached. The manifest; then what --clean may remove.

        Raises RecordsFailed: then nothing is removed.
        """
        hard = any(told.how != "drain" for told in loop.told)
        each_second = [self.run.claim.touch, *([] if self.job_end is None else [lambda: self.look_at_end(loop)])]
        code = data.finish(code, lambda done: loop.linger(self.run.signals, done, each_second), hard=hard)
        counts = self.scheduler.counts
        data.write_manifest(
            run_id=self.run.run_id,
            host=socket.gethostname(),
            started=self.run.started,
            exit_code=int(code),
            counts={"done": counts.done, "failed": counts.failed, "skipped": counts.skipped},
        )
        if code in (ExitCode.OK, ExitCode.TASKS_FAILED):
            unfinished = "a task failed" if counts.any_failed else "not all tasks have run" if self.scheduler.left else ""
            if not data.clean(self.run.started, self.run.source.path, unfinished, lambda: self.run.signals.told_to_stop):
                code = ExitCode.STOPPED
        if summary := data.summary():
            self.run.say(summary)
        data.close()
        return code

    @property
    def undelivered(self) -> bool:
        """Data that was to be delivered is left."""
        return self.gate is not None and self.gate.data is not None and self.gate.data.undelivered

    # contexts that attach

    def open_door(self, events: EventsWriter) -> Door:
        """Raises Refused when --use-address names what cannot be listened on."""
        run = {"run_id": self.run.run_id, "prefix": self.run.prefix.name, "started": self.run.started}
        picture = Picture(run, self.crew, self.scheduler, self.recorder, self.counted)
        said, given, task_time = self.run.say, self.run.add_given, self.run.options.task_time
        self.visits = Visits(self.crew, self.scheduler, picture, events, said, given, task_time)
        self.crew.on_changed = self.visits.engine_changed
        earlier = self.run.requeued is not None or self.run.options.origins.get("use_address") == "inherited"
        door = Door(
            self.run.prefix,
            self.run.run_id,
            self.run.options,
            self.visits,
            self.run.selector,
            self.run.log.write,
            earlier=earlier,
        )
        if door.news:
            self.run.say(door.news)
        return door

    def close_door(self) -> None:
        if self.door is not None:
            why = self.scheduler.stop_why
            self.visits.close(f"the run has ended ({why})" if why else "the run has ended")
            self.door.close()
            self.door = None

    def say_how_to_attach(self) -> None:
        assert self.door is not None
        prefix = shlex.quote(self.run.shown(self.run.prefix))
        self.run.say(
            f"this run starts no engine; add some with\n  taskrun attach {prefix} -s localhost:4\n"
            f"or {prefix}{names.DBUTIL}{self.door.reach}; on a machine that shares no folder: taskrun attach --help",
            always=True,
        )

    def make_retirement(self, engines: Engines) -> Retirement:
        options = self.run.options
        default = SLURM_COMMAND if engines.steps is not None else ""
        command = "" if options.no_retire else default if options.retire_cmd is None else options.retire_cmd
        environ = dict(os.environ)
        keep = ""
        if engines.steps is not None:
            environ["SLURM_JOBID"] = engines.steps.job
            keep = driver_node(engines.requests, os.environ)
        nodes = [each.host for each in engines.requests]
        made = Retirement(nodes, keep, command, environ, lambda level, text: self.crew.notes.append((level, text, "")))
        self.run.stack.callback(made.close)
        return made

    def offer(self, engines: Engines) -> m.ContextJoined:
        """What the scheduler is told of the engines that were asked for."""
        end = engines.steps.end if engines.steps is not None else None
        return m.ContextJoined(
            engines.label,
            max(0, self.run.options.task_limit),
            end=None if engines.steps is None else math.inf if end is None else by_monotonic(end),
            task_time=self.run.options.task_time,
            gives_back=bool(self.retirement.command),
            keep=self.retirement.driver_node,
            one_fate=engines.steps is not None,
        )

    def is_used(self, member: Member) -> None:
        """An engine of its node has joined. Who attaches may call a host by the name of a node: that is another one."""
        if member.request.reach != "relay":
            self.retirement.came_back(member.request.host)

    def is_free(self, member: Member) -> None:
        """Its node is of no more use to the run."""
        if member.request.reach != "relay":
            self.retirement.ended(member.request.host, member.agent.code, lost=member.lost_for_good)

    def make_job_end(self, label: str, steps: Steps, loop: Loop) -> JobEnd:
        def deadline() -> float | None:
            context = self.scheduler.contexts.get(label)
            return None if context is None or context.walltime is None else context.walltime.deadline

        def moved(end: float) -> None:
            self.run.say(f"SLURM has changed the time of this job: it ends at {clock(end)}")
            loop.post(m.ContextEnds(label, by_monotonic(end)))

        def warned(end: float | None) -> None:
            if end is None:
                loop.tell(m.Told("preempt", signal.SIGUSR1.name))
            else:
                self.run.say(
                    f"SIGUSR1: this job ends at {clock(end)}; what runs goes on until shortly before, nothing starts that would not end"
                )

        made = JobEnd(steps.job, steps.end, deadline, moved)
        made.on_warned = warned
        self.run.signals.warned = self.is_warned
        return made

    def is_warned(self) -> bool:
        """SIGUSR1 has come, in a job of SLURM: when that ends is asked."""
        assert self.job_end is not None
        self.run.log.write("INFO", "SIGUSR1: SLURM is asked when this job ends")
        self.job_end.warned()
        return True

    def look_at_end(self, loop: Loop) -> None:
        """Watch the end of the job while outputs are delivered: the scheduler does not look at it any more."""
        assert self.job_end is not None
        self.job_end.step()
        end = self.job_end.end
        if end is not None and time.monotonic() >= Walltime(by_monotonic(end), None, self.run.options.grace).stop_at:
            loop.tell(m.Told("preempt", ENDS))

    def wait_elsewhere(self, crew: Crew) -> None:
        """What earlier runs may have left on other hosts ends before anything is started."""
        runs, hosts, anybody = self.run.elsewhere
        if hosts:
            now = time.time()
            ends = {host: time.monotonic() + until - now for host, until in hosts.items()}
            crew.survivors.expect(runs, ends, anybody=anybody)
            longest = max(hosts.values()) - now
            shown = ", ".join(map(elsewhere.shown, hosts))
            self.run.say(f"tasks of the earlier run may still run on {shown}: waiting for their end, at most {longest:.0f} s")

    def engine_patience(self, engines: Engines) -> float:
        """Seconds to wait with no engine left: on this machine nobody comes back by himself."""
        if self.run.options.wait_for_engines is not None:
            return float(self.run.options.wait_for_engines)
        if self.run.options.startup_only:
            return math.inf
        return 0.0 if engines.given["kind"] == "local" else ENGINES_SECONDS

    def told_to_others(self) -> dict[str, Any]:
        """What agents on other hosts are told beside what all are: where to run, how to know this folder, what to carry along."""
        lock_path = names.with_suffix(self.run.prefix, names.LOCK)
        apart = lock_path.parent != Path(self.run.cwd)
        token = {"path": str(lock_path), "text": self.run.run_id, "inode": os.stat(self.run.cwd).st_ino if apart else 0}  # noqa: PTH116
        return {"token": token, "workdir": self.run.options.workdir or "", "env": carried_environment(self.run.options.env, os.environ)}

    # Watcher

    def tick(self, _: Scheduler) -> None:
        self.run.console.update(self.progress)

    def wait(self, why: str) -> None:
        self.waiting = why
        if why.startswith(ENDS):
            self.run.say(f"{why}; nothing more starts")
        patience = self.scheduler.policy.wait_for_engines
        if why == NO_ENGINE and patience and self.crew.admission.had_one:
            prefix = shlex.quote(self.run.shown(self.run.prefix))
            more = "" if self.run.options.use_address == "off" else f"; `taskrun attach {prefix} -s HOST:4` adds some"
            self.run.notes.flush()  # why none is left
            self.run.say(f"no engine is left: waiting for one{'' if patience == math.inf else f', at most {patience:g} s'}{more}")

    def comment_text(self) -> str:
        scan = self.run.source.scan
        return text_of(self.run.account(over=False), None if scan is None else scan.tasks)

    @property
    def at_limit(self) -> bool:
        """Tasks ran until the time of this job was over, not only until SLURM took its nodes for another one."""
        why = self.scheduler.stop_why
        preempted = self.job_end is not None and self.job_end.preempted
        own = self.scheduler.contexts.get(self.label)
        reached = why == signal.SIGUSR1.name or (why.startswith(ENDS) and own is not None and own.ends)
        return self.recorder.tried and reached and not preempted

    def told(self, told: m.Told) -> None:
        """Report what a demand to stop means, and what is waited for."""
        scheduler = self.scheduler
        running = self.crew.running(scheduler.engines)
        if scheduler.finished:
            self.run.say(f"{told.why}: no task is left to run" + (", what is to be delivered still is" if told.how == "drain" else ""))
        else:
            first = awaited.longest(scheduler.engines.values(), time.monotonic())
            text = awaited.sentence(told, running, scheduler.running, first, scheduler.policy.grace)
            if scheduler.running or told.how == "drain" or self.job_end is not None:
                self.run.say(text)
            else:  # it means nothing for any task
                self.run.log.write("INFO", text)

    def progress(self) -> Progress:
        latest, self.recorder.latest = self.recorder.latest[-LENGTHS_SHOWN:], []
        return self.counted()._replace(ended=tuple(result.elapsed for _, result, _ in latest if result.kind == "task"))

    def counted(self) -> Progress:
        scheduler, recorder = self.scheduler, self.recorder
        tasks, running = self.run.account(over=False), self.crew.running(scheduler.engines)
        stopping = bool(scheduler.stop_why) or self.waiting.startswith(ENDS)
        first = awaited.longest(scheduler.engines.values(), time.monotonic()) if stopping else None
        return Progress(
            done=tasks.done,
            failed=tasks.failed,
            skipped=tasks.skipped,
            running=running,
            left=None if tasks.left is None else max(0, tasks.left - running),
            finished=tasks.finished,
            slots=sum(member.request.slots for member in self.crew.members.values() if member.available),
            stopping=stopping,
            ending=scheduler.takes_back,
            oldest=first.seconds if first is not None else 0.0,
            waiting=self.waiting_for_data() or awaited.view(scheduler.stop_why, first) or self.waiting,
            data=self.data_view(),
            failures=tuple(recorder.last_failures),
        )

    def data_view(self) -> str:
        return self.gate.data.view() if self.gate is not None and self.gate.data is not None else ""

    def waiting_for_data(self) -> str:
        return self.gate.data.waiting() if self.gate is not None and self.gate.data is not None else ""
