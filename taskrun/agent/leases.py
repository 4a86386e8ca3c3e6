"""Leases: stretches of time in which one slot runs lines. Started by GNU Parallel where it is there, else by the agent."""

import os

from . import starter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Union

START_LIMIT = 10.0  # seconds without any work of the starter's, after which a lease that was asked for will not connect
SLOW_LIMIT = 60.0  # seconds in which it must connect, however much the starter works
PARALLEL_TRIES = 3  # GNU Parallels that may fail in a row before the built-in starter takes over
BUILTIN_TRIES = 10
DELAY_TOLD = 3  # of them, after which the person is told
LOOK_AFTER = 2.0  # seconds from which on the starter's work is looked at
FOLDER_GONE = "the agent's folder is gone"


class Leases(object):
    def __init__(self, config: "Dict[str, Any]", arguments: "List[str]", folder: str, note: "Callable[[str, str], None]") -> None:
        self.config = config
        self.arguments = arguments
        self.folder = folder
        self.note = note
        self.starting: "Dict[str, float]" = {}  # lease -> when it was asked for
        self.count = 0
        self.failures = 0  # in a row
        self.worked = False  # a slot has come
        self.work: "Any" = None  # what the starter had done
        self.worked_at = 0.0  # when that was seen to grow
        self.pause_until = 0.0
        self.useless = ""  # why no slot can be started at all
        self.delayed = 0  # the error for which none can be started for now
        self.starter: "Union[starter.Builtin, starter.Parallel]" = starter.Builtin(arguments)
        if config["starter"] != "builtin" and not self.use_parallel() and config["starter"] == "parallel":
            note("error", "GNU Parallel was asked for and cannot be used here: the built-in starter starts slots")

    def use_parallel(self) -> bool:
        slots = self.config["slots"]
        limit = starter.narrow(slots)
        if limit and self.config["starter"] == "auto":
            return False
        path, version = starter.find_parallel(
            os.environ.get("PATH", os.defpath) + os.pathsep + os.path.dirname(starter.shipped_path(self.folder))
        )
        if not path:
            return False
        try:
            self.starter = starter.Parallel(self.arguments, path, version, slots, self.folder, dict(os.environb))
        except OSError as error:
            self.note("warning", "GNU Parallel could not be started (%s)" % error)
            return False
        if limit:
            self.note("warning", "%s, so GNU Parallel starts fewer than %d slots: raise it, or use --starter builtin" % (limit, slots))
        return True

    def use_builtin(self) -> None:
        """Of what is left to be started GNU Parallel starts nothing: it was told to stop, too, and waits for its last job."""
        if isinstance(self.starter, starter.Parallel):
            self.starter.kill()
            self.starting.clear()
            self.starter = starter.Builtin(self.arguments)

    def connected(self, lease: str) -> None:
        self.starting.pop(lease, None)
        self.failures = 0
        self.worked = True

    def turned_away(self, count: int) -> None:
        """So many slots have come, and there is no room for them."""
        for lease in list(self.starting)[:count]:
            del self.starting[lease]
        self.failures = 0

    def step(self, missing: int, now: float) -> None:
        """Ask for as many leases as are `missing`, beside those on their way."""
        if self.useless:
            return
        if not self.starter.reap():
            self.failed("it ended", now)
        stuck = self.stuck(now) if self.starting else ""
        if stuck:
            self.failed(stuck, now, stuck=True)
        if now < self.pause_until:
            return
        while len(self.starting) < missing:
            self.count += 1
            lease = str(self.count)
            try:
                self.starter.start(lease)
            except OSError as error:
                self.failed(str(error), now)
                if self.failures == DELAY_TOLD:
                    self.delayed = error.errno or 0
                return
            self.starting[lease] = now

    def stuck(self, now: float) -> str:
        """Return why a lease is overdue, '' if it is not. On a busy machine a starter that works is merely slow."""
        asked = min(self.starting.values())
        waited = now - asked
        if waited <= LOOK_AFTER:
            return ""
        work = self.starter.work()
        if work != self.work:
            self.work, self.worked_at = work, now
        quiet = now - max(asked, self.worked_at)
        if quiet > START_LIMIT:
            return "it has started no slot, and done nothing for %d s" % quiet
        return "it works, but has started no slot for %d s" % waited if waited > SLOW_LIMIT else ""

    def failed(self, why: str, now: float, stuck: bool = False) -> None:
        """GNU Parallel is gone or stuck: a new one. After three without a slot, or a first one that hangs, the built-in starter."""
        self.failures += 1
        self.starting.clear()
        old = self.starter
        if isinstance(old, starter.Parallel):
            old.kill()
            if not os.path.exists(self.folder):  # GNU Parallel ends when its home has gone
                self.useless = FOLDER_GONE
                return
            if self.failures < PARALLEL_TRIES and (self.worked or not stuck) and self.use_parallel():
                return
            self.note("warning", "GNU Parallel cannot start slots here (%s): the built-in starter does" % why)
            self.starter = starter.Builtin(self.arguments)
        elif self.failures >= BUILTIN_TRIES:
            self.useless = "no slot can be started: " + why
        else:
            self.pause_until = now + min(1.0, 0.1 * self.failures)

    def wait(self, now: float) -> float:
        """Seconds after which `step` has something to look at."""
        if self.pause_until > now:
            return self.pause_until - now
        return 1.0 if self.starting else 3600.0

    def close(self) -> None:
        self.starter.close()

    def kill(self) -> None:
        """No slot is left: end the starter, too."""
        self.starter.kill()
