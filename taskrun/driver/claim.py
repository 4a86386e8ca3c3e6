"""What a run claims before it writes anything: its prefix, the locks of that and of the runs it carries on, the held name."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import time
from collections.abc import Callable
from pathlib import Path

from taskrun.driver import files, held
from taskrun.errors import RecordsFailed, Refused
from taskrun.options import Options
from taskrun.status import chain, lock, names, owner, sidecar

LOCK_TOUCH = 10.0  # seconds
TOUCHES = 3  # that a driver which lives may have missed
HANDOVER_SECONDS = 5.0  # beside a touch and the grace: for a driver that sees it has lost its lock, and ends its tasks
OLD_RUN_SECONDS = 30.0  # how long a resume waits for the last processes of a killed run
NAMES_SHOWN = 3


def with_all_ancestors(statuses: list[str]) -> list[Path]:
    """The status files that are resumed, each after those that it was itself resumed from as far as their records are needed."""
    seen: set[Path] = set()
    return [path for name in statuses for path in _with_ancestors(files.absolute(name), seen)]


def _with_ancestors(status: Path, seen: set[Path]) -> list[Path]:
    """The status file, and before it those it was resumed from when it was ended before it had taken over all their records."""
    seen.add(status)
    try:
        earlier = sidecar.load(sidecar.find(status))
    except Refused:
        return [status]
    paths = []
    if earlier.extra.get("carried") is False:
        for path in map(Path, earlier.resumed_from):
            if path not in seen and os.path.lexists(path):
                paths += _with_ancestors(path, seen)
    return [*paths, status]


def check_newest(options: Options, statuses: list[Path], say: Callable[[str], None], shown: Callable[[Path], str] = str) -> None:
    """Raises Refused where later runs have carried one of these on, and what they ran would run again; `-p` or `--append` permits that.

    `shown`: a path as the person can type it.
    """
    for path, newer in chain.superseded(statuses):
        status = shown(path)
        named, again = " and ".join(each.name for each in newer), " ".join(f"-r {shlex.quote(shown(each))}" for each in newer)
        if options.prefix is None and not options.append:
            raise Refused(
                f"{status} was carried on by {named}, and what that ran would run again: go on from there with {again}; "
                "or name the files of this run with -p to run it again"
            )
        say(f"{status} was carried on by {named}: what that ran, and this file has no record of, runs again")


class Claim:
    """`take` makes it, `release` gives it back. `name`: of the task file; `requeued`: SLURM has started this job again."""

    def __init__(
        self, options: Options, run_id: str, started: float, cwd: Path, name: str, requeued: bool, say: Callable[[str], None]
    ) -> None:
        self.options = options
        self.run_id = run_id
        self.started = started
        self.cwd = cwd
        self.name = name
        self.requeued = requeued
        self.say = say
        self.prefix: Path
        self.status_path: Path
        self.append = False  # the status file is there, and is continued
        self.name_made = False  # nobody has given the prefix
        self.base = ""  # a resume beside the first run: the name of that one's prefix
        self._told = False  # that it cannot be there
        self.locks: list[lock.Lock] = []
        self.held: socket.socket  # as long as anybody has it open, something of the run lives on this host
        self._stack = contextlib.ExitStack()
        self._touched = time.monotonic()

    def take(self) -> None:
        """Raises Refused when the prefix, or a run that is carried on, is somebody else's."""
        self.choose()
        while not self._lock():
            self.choose()
        self._wait_for_cut_off()

    def release(self) -> None:
        self._stack.close()
        self.locks = []

    def touch(self, *, at_once: bool = False) -> None:
        """A sign of life, when it is time for one. Raises RecordsFailed when another run has taken the prefix over."""
        now = time.monotonic()
        if at_once or now - self._touched >= LOCK_TOUCH:
            self._touched = now
            for each in self.locks:
                if not each.touch():
                    raise RecordsFailed(f"{each.path}: another run has taken this prefix over; this one stops")

    def choose(self) -> None:
        """The names, nothing taken yet. Raises Refused where they cannot be had."""
        options = self.options
        job = files.job_id(os.environ, self.started)
        self.prefix, whole = files.choose_prefix(options.prefix, self.name, job, self.cwd)
        self.append = False
        self.name_made = not whole and not options.append
        resumed = [files.absolute(name) for name in options.resume_from]
        if options.prefix is None and not options.append:
            self._choose_in_chain(resumed)
        status = names.with_suffix(self.prefix, names.STATUS)
        if options.append:
            if not resumed:
                raise Refused("--append continues the file of -r; name it with -r STATUS")
            if not whole:
                self.prefix = names.prefix_of(resumed[-1])
                status = resumed[-1]
            self.append = True
        elif whole and (status.exists() or status.is_symlink()):
            if not any(path.exists() and path.samefile(status) for path in resumed):
                raise Refused(
                    f"{status} exists: -r {shlex.quote(str(status))} carries on from it, with --append in the same file; or give another -p"
                )
            self.append = True
        if self.append and options.match == "command" and not self.requeued:
            raise Refused(f"--match command gives tasks new ids, and {status} has the old ones: leave out --append and -p for a new file")
        self.status_path = status

    def _choose_in_chain(self, resumed: list[Path]) -> None:
        """A resume has its files beside those of the first run, where that can be."""
        base = chain.base_of(resumed)
        if base is None:
            return
        if os.access(base.parent, os.W_OK | os.X_OK):
            self.prefix, self.base = chain.next_prefix(base), base.name
        elif not self._told:
            self._told = True
            self.say(f"the folder of the earlier run, {base.parent}, cannot be written to: the files of this one are {self.prefix}_*")

    def _lock(self) -> bool:
        """False: another run was faster with the name that was made for this one."""
        options = self.options
        resumed = [files.absolute(name) for name in options.resume_from]
        named = [*resumed, *(Path(os.path.realpath(each)) for each in resumed)]  # a link: its run has the lock where it points
        prefixes = [self.prefix, *map(names.prefix_of, named)]
        self.release()
        seen = set()
        for prefix in prefixes:
            place = os.path.realpath(prefix.parent), prefix.name  # one lock, whatever links its folder is named by
            if place in seen:
                continue
            seen.add(place)
            acquire = lock.acquire if prefix == self.prefix else lock.acquire_or_check
            if not prefix.parent.is_dir():
                continue
            try:
                taken = acquire(prefix, self.run_id, take_over=options.take_over, lost_after=options.lost_after)
            except Refused:
                if prefix == self.prefix and self.name_made and os.path.lexists(names.with_suffix(prefix, names.LOCK)):
                    return False
                raise
            if taken is not None:
                self.locks.append(taken)
                self._stack.callback(taken.release)
            if prefix == self.prefix and self.name_made and self.status_path.exists():
                return False
        for name in options.resume_from:
            self._wait_for_old(files.absolute(name))
        self.held = held.hold(self.run_id)
        self._stack.callback(self.held.close)
        return True

    def _wait_for_cut_off(self) -> None:
        """The node of a job's earlier start is lost to SLURM, but the driver there may live on: it stops when it next touches its lock."""
        for each in self.locks:
            if each.previous is not None and owner.is_earlier_start(each.previous) and each.silence < TOUCHES * LOCK_TOUCH:
                seconds = LOCK_TOUCH + self.options.grace + HANDOVER_SECONDS
                self.say(f"the earlier start of this job may live on, on {each.previous.host}: giving it {seconds:.0f} s to stop")
                time.sleep(seconds)
                return

    def _wait_for_old(self, status: Path) -> None:
        """A run that was killed a moment ago may still be ending its tasks on this host."""
        try:
            old = sidecar.load(sidecar.find(status))
        except Refused:
            return  # disBatch's, or of a run that left none
        take_over = self.options.take_over
        left = held.wait_until_free(
            old.run_id,
            OLD_RUN_SECONDS,
            lambda: self.say("waiting for the last tasks of the earlier run to end"),
            users=held.users_of(old, status),
            take_over=take_over,
        )
        if left.alive:
            more = "; --take-over does not pass them, their tasks would run twice" if take_over else ""
            raise Refused(f"{status}: processes of the run that wrote it still live on this host: end them, then try again{more}")
        if left.unsure and not take_over:
            raise Refused(
                f"{status}: {_some(left.unsure)} taken on this host, and whether by processes of that run cannot be told "
                f"(see /proc/net/unix): end them, or pass them with --take-over if nothing of that run is left"
            )
        if left.unsure:
            self.say(f"--take-over: {_some(left.unsure)} taken on this host, and passed over")
        if left.strange:
            self.say(f"{_some(left.strange)} taken on this host by another user, and nothing of the earlier run")


def _some(taken: list[str]) -> str:
    """As the begin of a sentence that goes on with `taken`."""
    shown = ", ".join(taken[:NAMES_SHOWN])
    if len(taken) == 1:
        return f"the socket name {shown} is"
    more = f" and {len(taken) - NAMES_SHOWN} more" if len(taken) > NAMES_SHOWN else ""
    return f"the socket names {shown}{more} are"
