"""`--dry-run`: what would run, expanded, with run, skip, retry or left and the reason. Writes no file, takes no lock, starts nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path

from taskrun.driver import edited, files
from taskrun.driver.claim import Claim, check_newest
from taskrun.driver.contexts import choose_engines
from taskrun.driver.foreach import take_some
from taskrun.driver.run import open_records, working_directory
from taskrun.driver.source import Source, color_wanted, open_source
from taskrun.driver.supply import MISMATCHES_SHOWN, plan_file
from taskrun.engines.request import EngineRequest
from taskrun.errors import ExitCode, Refused, told
from taskrun.language import Reader, render_all
from taskrun.language.diagnostics import first_error, in_order
from taskrun.model import NO_REPEAT, Barrier, PerEngine, Skipped, Supplied, Task
from taskrun.options import Options
from taskrun.planning.edits import Unrun
from taskrun.planning.expand import Expander
from taskrun.planning.gone import gone_text
from taskrun.planning.resume import Decision, Resume, mismatch_text
from taskrun.status import names
from taskrun.status.sidecar import Sidecar
from taskrun.visible import line_of


def dry_run(taskfile: str, options: Options, typed_in: str, name: str | None = None, earlier_run: Sidecar | None = None) -> int:
    """Prints the plan to stdout, a summary to stderr; the exit code is that of a refusal or 0. Raises Refused.

    `typed_in`: the folder of the person's shell; `name`: of a stream; `earlier_run`: that is carried on, where no task file was named.

    Starts no program and asks no host: what only they know is not said.
    """
    working_directory()
    source = open_source(taskfile, options, dry=True)
    if name:
        source = source._replace(name=name)
    engines, warnings = choose_engines(options, was_slurm=earlier_run is not None and earlier_run.was_slurm, dry=True)
    if source.scan is not None and source.scan.warnings:
        sys.stderr.write(render_all(source.scan.diagnostics, source.shown, 0, source.scan.warnings, color_wanted()))
    for warning in warnings + source.lists.take_notes():
        _say(warning)
    Claim(options, "", time.time(), Path(working_directory()), source.name, False, _say).choose()
    check_newest(options, [files.absolute(each) for each in options.resume_from], _say, partial(files.shown, folder=typed_in))
    indexes = open_records(options, _say)
    resume = Resume(indexes, retry=options.retry, force=options.force_resume, match=options.match) if indexes else None
    counts: Counter[str] = Counter()
    mismatches: list[Decision] = []
    earlier = edited.earlier_file(options, source.text, own=False)
    unrun = earlier.unrun if earlier is not None else None
    lines = _lines(_planned(source, options), resume, options.fail_fast, counts, mismatches, unrun)
    put = _printer()
    for line in lines:
        put(line)
    sys.stdout.flush()
    if counts["mismatch"] and not options.force_resume:
        raise Refused(mismatch_text(mismatches, counts["mismatch"]))
    if resume is not None and (text := gone_text(resume.unclaimed.find(sum(counts.values())), source.name, "")):
        _say(text)
    if earlier is not None and (added := earlier.look()):
        _say(added)
    if source.scan is not None and source.scan.stages:
        _say("keys and remotes are not tried in a dry run: taskrun check tries them")
    if options.clean != "keep":
        _list_removals(options, source.path)
    _say(summary(counts, _where(engines.requests, options)))
    return ExitCode.OK


def _list_removals(options: Options, taskfile: Path | None) -> None:
    """List what --clean would remove here now of what the runs given with -r have moved and made."""
    from taskrun.driver import cleaning
    from taskrun.driver.before import Before
    from taskrun.driver.deliveries import earlier
    from taskrun.driver.places import new_places

    if not options.resume_from:
        _say(f"--clean {options.clean}: which files it would remove is known of a run that has been: add -r STATUS")
        return
    before = earlier([files.absolute(name) for name in options.resume_from])
    for folder in before.folders:
        _say(f"--clean {options.clean}: {folder.host} is not asked in a dry run: what would be removed in {folder.path} is not shown")
    places = new_places(Path.cwd(), "dry", 1, options.rclone_config or "", _say)
    inputs, outputs = list(before.inputs), list(before.outputs)
    put = _printer()
    was_there = [names.with_suffix(names.prefix_of(files.absolute(name)), names.BEFORE) for name in options.resume_from]
    scope = cleaning.Scope(
        options.clean, before.spans, taskfile, inputs, outputs, {*inputs, *outputs}, Before(was_there[-1], was_there[:-1])
    )
    spared: set[str] = set()
    for removing in cleaning.plans(scope, places, lambda _, text: _say(text)):
        for what, listed in (("remove", removing.plan.remove), ("keep", removing.plan.kept)):
            for each in listed:
                name = cleaning.shown(removing.place, each.path).encode("utf-8", "surrogateescape")
                put(_line(what, "", 0, "", each.why, name))
        gone = {each.path for each in removing.plan.remove}
        ends = [each.dest for each in outputs if each.source in gone] + [each.source for each in inputs if each.dest in gone]
        for text in ends:
            with contextlib.suppress(Refused):
                end = places.recorded(text)
                spared |= {str(end.at(""))} if end.kind != "local" else set()
    sys.stdout.flush()
    if spared:
        _say(f"--clean {options.clean}: {', '.join(sorted(spared))}: not asked in a dry run: a run keeps what is not there, whole")
    places.stores.close()


#: When data is moved, by the way it goes and its scope.
_STAGING = {
    ("in", "RUN"): "once, before the tasks below start",
    ("in", "ENGINE"): "once on each engine that does not share this folder",
    ("out", "RUN"): "as it is complete, and at the end",
}


def _printer() -> Callable[[bytes], object]:
    """Return the printer of a row: raw bytes for programs, nothing that a terminal would obey."""
    if sys.stdout.isatty():
        return lambda line: sys.stdout.write(line_of(line))
    return sys.stdout.buffer.write


def _say(text: str) -> None:
    sys.stderr.write(told(text) + "\n")


def _planned(source: Source, options: Options) -> Iterator[Supplied]:
    if source.text is not None:
        yield from plan_file(source.text, source.lists, ignore_unknown=options.ignore_unknown)
        return
    reader = Reader(source.shown, ignore_unknown=options.ignore_unknown, strict=options.strict)
    expander = Expander(source.lists)
    with open(source.fd, "rb", buffering=0, closefd=source.fd > 2) as stream:
        for data in chain(iter(lambda: stream.read(1 << 18), b""), (None,)):
            items = reader.close() if data is None else reader.feed(data)
            if reader.errors:
                raise Refused(render_all(reader.diagnostics, source.shown, reader.errors, reader.warnings).rstrip("\n"))
            found = in_order(reader.take_new(), take_some(items, source.lists, reader.judge))
            if first_error(found):
                raise Refused(render_all(found, source.shown, 0, 0).rstrip("\n"))
            sys.stderr.write(render_all(found, source.shown, 0, 0, color_wanted()))
            for item in items:
                yield from expander.expand(item)


def _lines(
    planned: Iterable[Supplied],
    resume: Resume | None,
    fail_fast: bool,
    counts: Counter[str],
    mismatches: list[Decision],
    unrun: Unrun | None,
) -> Iterator[bytes]:
    """One line each: what, id, line, repeat index, reason, command; tab-separated, the command last, raw."""
    failed = False  # a task that is skipped, since the barrier before
    stopped = ""  # why nothing more is run
    for item in planned:
        if isinstance(item, Task):
            decision = resume.decide(item) if resume is not None else None
            action: str = decision.action if decision is not None else "run"
            reason = decision.reason if decision is not None else "no record"
            if unrun is not None and action == "run":
                unrun.add(item.line)
            if decision is not None and action == "mismatch":
                mismatches += [decision] if len(mismatches) < MISMATCHES_SHOWN else []
            elif decision is not None and action == "skip" and decision.code:
                failed = True
                if fail_fast and not stopped:
                    stopped = "--fail-fast stops the run: a skipped task had failed"
            elif stopped and action != "skip":
                action, reason = "left", stopped
            counts["failed" if decision is not None and action == "skip" and decision.code else action] += 1
            repeat = "" if item.repeat == NO_REPEAT else str(item.repeat)
            yield _line(action, item.id, item.line, repeat, reason, item.command)
            for each in item.staging:
                where = f"{each.source} to {each.dest or 'the working directory'}".encode("utf-8", "surrogateescape")
                yield _line(f"stage-{each.way}", item.id, each.line, repeat, "for this task", where)
        elif isinstance(item, Barrier):
            counts["barrier"] += 1
            if resume is not None:
                resume.unclaimed.barrier(item.id)
            reason = "waits for all above, stops if one failed" if item.check else "waits for all above"
            yield _line("barrier", item.id, item.line, "", reason, item.text)
            if item.check and failed and not stopped:
                stopped = f"line {item.line} stops the run: a task above it had failed"
            failed = False
        elif isinstance(item, PerEngine):
            reason = "on each engine, before its first task" if item.when == "START" else "on each engine, when it leaves"
            reason += "; one on which it fails is not used" if item.check else ""
            yield _line(item.when.lower(), item.id, item.line, "", reason, item.command)
        elif not isinstance(item, Skipped):
            where = f"{item.source} to {item.dest or 'the working directory'}".encode("utf-8", "surrogateescape")
            from taskrun.driver.survey import here

            reason = _STAGING[item.way, item.scope] + (f": {text}" if (text := here(item)) else "")
            yield _line(f"stage-{item.way}", "", item.line, "", reason, where)


def _line(what: str, number: int | str, line: int, repeat: str, reason: str, command: bytes) -> bytes:
    return f"{what}\t{number}\t{line}\t{repeat}\t{reason}\t".encode("utf-8", "surrogateescape") + command + b"\n"


def _where(requests: list[EngineRequest], options: Options) -> str:
    if requests:
        return "; " + ", ".join(f"{request.slots} slot{'s'[: request.slots != 1]} on {request.host}" for request in requests)
    return ", on engines that attach" if options.startup_only else ", on engines that nobody has named"


def summary(counts: Mapping[str, int], where: str) -> str:
    parts = [f"{counts['run']} to run"]
    if counts["retry"]:
        parts.append(f"{counts['retry']} to run again")
    if counts["skip"]:
        parts.append(f"{counts['skip']} skipped")
    if counts["failed"]:
        parts.append(f"{counts['failed']} failed")
    if counts["left"]:
        parts.append(f"{counts['left']} not run")
    return f"{', '.join(parts)}{where}. Nothing was run (--dry-run)."
