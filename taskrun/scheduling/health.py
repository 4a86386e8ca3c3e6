"""The health of hosts: one whose last tasks failed within seconds, while tasks succeed elsewhere, is set aside and probed.

A host is a node of a context: its engines share what it lacks, and one that replaces another does, too. Until a task has ended elsewhere
nobody can tell a sick host from tasks that fail: meanwhile it is held, and gets no more than probes. Where all fail nobody is set aside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from taskrun.model import Cause, Result
from taskrun.scheduling import messages as m
from taskrun.scheduling.engine import Attempt, Context, Engine
from taskrun.scheduling.host import Host, longer, share_of
from taskrun.scheduling.outbox import Outbox
from taskrun.scheduling.placement import Placement
from taskrun.scheduling.plan import Plan
from taskrun.scheduling.policy import READ_SECONDS, Policy

FAST = 10.0  # seconds: a task that fails later has found what it needs to run
PROBE_MOST = 1920.0  # seconds between two probes
COMING_SECONDS = 20.0  # for other hosts to be there, before one that only fails goes on alone
LEFT_SECONDS = 300.0  # at most, for another host where only those are left that are set aside
OWN_FAILURES: frozenset[Cause] = frozenset(("exit", "signal", "start", "timeout", "memory", "stage-in", "stage-out"))


class Health:
    def __init__(self, policy: Policy, plan: Plan, placement: Placement, contexts: Mapping[str, Context], out: Outbox) -> None:
        self.limit = policy.sick_after
        self.first_pause = policy.probe_pause
        self.patience = min(policy.wait_for_engines, LEFT_SECONDS)
        self.plan = plan
        self.placement = placement
        self.contexts = contexts
        self.out = out
        self.hosts: dict[tuple[str, str], Host] = {}
        self._of: dict[str, Host] = {}  # by engine, also of one that has gone: it may have results
        self._ok = 0
        self._bad = 0
        self._changed: dict[Host, None] = {}
        self._ill: dict[Host, None] = {}  # those that may have to be set aside, or are
        self._now = 0.0
        self._read_at = 0.0  # after an absence of the driver, all that agents said meanwhile has been read by then
        self._left_since: float | None = None  # only hosts are left that are set aside
        self.stalled = False  # every host that is ready is set aside

    # --- what happens

    def joined(self, engine: Engine) -> None:
        if not self.limit:
            return
        context = engine.context
        host = self.hosts.get((context.name, engine.node))
        if host is None:
            host = self.hosts[context.name, engine.node] = Host(context, engine.node)
        host.engines = {name: each for name, each in host.engines.items() if each.phase != "gone"} | {engine.name: engine}
        self._of[engine.name] = host
        self._changed[host] = None
        if host.state:
            engine.most = 0

    def ended(self, engine: str, result: Result) -> None:
        """A task ended for good."""
        host = self._of.get(engine)
        if host is None or (result.code and result.cause not in OWN_FAILURES):
            return
        if not result.code and host.ok and not host.row and host.opened is None and host.probe is None:  # as most are
            self._ok += 1
            host.ok += 1
            return
        good = result.code == 0
        fast = not good and result.elapsed < FAST
        key = result[:3]
        if host.is_probe(engine, key):
            host.probe = key
        if key == host.probe:
            host.succeeded = not fast
        if good:
            self._ok += 1
            host.ok += 1
        elif not fast:
            self._bad += 1
            host.bad += 1
        if fast:
            if not host.row:
                host.ok_elsewhere, host.bad_elsewhere = self._ok - host.ok, self._bad - host.bad
                self._changed[host] = None
            host.row += 1
            host.last = result
            if host.row >= self._short:
                self._changed[host] = None
        elif host.row and host.state != "aside":
            self._bad += host.row
            host.bad += host.row
            host.row = 0
            self._changed[host] = None
        elif good and host.ok == 1:
            self._changed[host] = None

    @property
    def _short(self) -> int:
        """Length of a row with which a host gets nothing ahead any more."""
        return (self.limit + 1) // 2

    def absent(self, seconds: float, now: float) -> None:
        """The driver did not run for so long: others may have come meanwhile, and how a probe ended is still to be read."""
        self._read_at = now + READ_SECONDS
        for host in self._ill:
            if host.since:
                host.since += seconds
        if self._left_since is not None:
            self._left_since += seconds

    # --- what follows

    def look(self, now: float, doubtful: Sequence[Attempt]) -> None:
        """Decide, before tasks are handed out. `doubtful`: attempts whose failure may yet turn out to be the system's doing."""
        if not self.limit or not (self._changed or self._ill or doubtful):
            return
        self._now = now
        changed, self._changed = self._changed, {}
        failing: dict[Host, int] = {}
        for attempt in doubtful:
            host = self._of.get(attempt.engine.name)
            if host is not None and attempt.key[0] == "task":
                failing[host] = failing.get(host, 0) + 1
                if host.is_probe(attempt.engine.name, attempt.key):
                    host.probe = attempt.key
                changed[host] = None
        several = len(self.hosts) > 1 or any(_offers(context) for context in self.contexts.values())
        usual = self._bad >= max(self._ok, 4 * self.limit)  # that tasks fail
        for host in changed:
            if host.row + failing.get(host, 0) >= self.limit or host.state:
                self._ill[host] = None
            else:
                short = several and not usual and (not host.ok or host.row >= self._short)
                for engine in host.engines.values():
                    self._cap(engine, engine.slots if short else None)
        self.stalled = False
        if self._ill:
            self._judge(failing, now)

    def _judge(self, failing: Mapping[Host, int], now: float) -> None:
        well = [host for host in self.hosts.values() if not host.state and host.row < self.limit and host.ready()]
        coming = any(_offers(context) for context in self.contexts.values())
        coming = coming or any(host.state != "aside" and host.row < self.limit and host.is_coming() for host in self.hosts.values())
        alone = sum(host.state != "aside" for host in self._ill) == 1
        tasks = bool(self.plan.pending or self.plan.again)
        busy = tasks or any(engine.live for host in well for engine in host.ready())
        failed_elsewhere = sum(host.row for host in self.hosts.values() if host.row < self.limit and host.state != "aside")
        for host in list(self._ill):
            if host.state:
                self._look_at_probe(host, failing, tasks, now)
            if host.state == "aside" or host not in self._ill:
                continue
            row = host.row + failing.get(host, 0)
            if row < self.limit:
                self._well(host)
                continue
            ok = self._ok - host.ok - host.ok_elsewhere
            bad = self._bad - host.bad - host.bad_elsewhere + failed_elsewhere
            share = share_of(self._bad - host.bad + failed_elsewhere, self._ok - host.ok)
            share = max(share, share_of(bad, ok, share))
            host.since = host.since or now
            if well and ok and host.row >= self.limit * longer(share, self._ok + self._bad):
                self._close(host, "aside", now)
            elif well and bad >= max(ok, self.limit):
                self._let(host, None)  # they fail there, too
            elif (well and busy) or (not well and coming and alone and now < host.since + COMING_SECONDS):
                self._hold(host, self.limit + ok + bad - row, now)
            else:
                self._let(host, None)
        aside = [host for host in self._ill if host.state == "aside" and host.ready()]
        if aside and tasks and not coming and not any(host.state != "aside" and host.ready() for host in self.hosts.values()):
            self._left_since = now if self._left_since is None else self._left_since
            for host in aside if now >= self._left_since + self.patience else ():
                self._restore(host, "needed")
        else:
            self._left_since = None
        self.stalled = bool(self._ill) and not any(engine.most != 0 for host in self.hosts.values() for engine in host.ready())

    def _hold(self, host: Host, room: int, now: float) -> None:
        """Let it have `room` more tasks; with none it is held."""
        if room > 0:
            self._let(host, room)
        elif not host.state:
            self._close(host, "held", now)

    def _let(self, host: Host, most: int | None) -> None:
        """Let every engine of it hold up to `most` attempts, None for any number."""
        host.state = ""
        host.opened = host.probe = None
        for engine in host.engines.values():
            self._cap(engine, None if most is None else min(engine.slots, most))

    def _close(self, host: Host, state: str, now: float) -> None:
        """Give it nothing but probes, and take back what it has not started."""
        if not host.pause or host.ok - host.ok_then >= self.limit:
            host.pause = self.first_pause
        host.state = state
        host.probe_at = now + host.pause
        host.opened = None
        for engine in host.engines.values():
            self._cap(engine, 0)
            if engine.phase == "ready" and engine.live and not engine.recalling:
                engine.recalling = True
                self.out.add(m.Recall(engine.name, len(engine.live)))
        if state == "aside":
            self._say(host, "set-aside")
        elif not host.said:
            host.said = True
            self._say(host, "held")

    def _well(self, host: Host) -> None:
        del self._ill[host]
        host.since = 0.0
        host.said = False
        self._let(host, None)

    def _restore(self, host: Host, what: m.Verdict) -> None:
        """Use it again, and count anew. Should it fail again soon, it is probed later than before."""
        self._well(host)
        host.row = 0
        host.ok_then = host.ok
        host.pause = min(PROBE_MOST, 2 * host.pause)
        self._say(host, what)

    def _cap(self, engine: Engine, most: int | None) -> None:
        if engine.most != most:
            engine.most = most
            self.placement.update(engine)

    # --- probes

    def _look_at_probe(self, host: Host, failing: Mapping[Host, int], tasks: bool, now: float) -> None:
        """Give it one task at a time, ever more seldom. A task that does not fail within seconds shows that the host can be used."""
        if host.opened is not None:
            if host.probe is None:
                host.probe = next((key for key in host.opened.live if key not in host.seen_there), None)
            if host.probe is not None or not tasks or host.opened.phase != "ready":
                self._cap(host.opened, 0)
                host.opened = None
            else:
                self._open(host, host.opened)  # some of what it held may have ended, or have come back
        if host.probe is not None:
            attempt = next((engine.live[host.probe] for engine in host.engines.values() if host.probe in engine.live), None)
            if host.succeeded is None and attempt is not None and attempt.started and now >= self._is_slow_at(attempt):
                host.succeeded = True
            if host.succeeded:
                host.probe = None
                if host.state == "aside":
                    self._restore(host, "restored")
                else:
                    host.row = 0
                    self._well(host)
            elif host.succeeded is False:
                host.probe = None
                host.pause = min(PROBE_MOST, 2 * host.pause)
                host.probe_at = now + host.pause
                self._say(host, "probe-failed" if host.state == "aside" else "doubted")
            elif attempt is None and host not in failing:  # it came back, or went with its engine
                host.probe = None
        if host.state and host.probe is None and host.opened is None and tasks and now >= host.probe_at and (ready := host.ready()):
            self._open(host, ready[0])

    def _is_slow_at(self, attempt: Attempt) -> float:
        """Time from which it has not failed within seconds, if it has not ended."""
        return max(attempt.assigned + FAST, self._read_at)

    def _open(self, host: Host, engine: Engine) -> None:
        """The next task that the engine is given is a probe."""
        host.opened, host.succeeded = engine, None
        host.seen_there = frozenset(engine.live)
        self._cap(engine, len(engine.live) + 1)

    @property
    def deadline(self) -> float | None:
        """Time at which to look again, if nothing happens until then."""
        times = []
        for host in self._ill:
            if host.probe is not None:
                times += [self._is_slow_at(engine.live[host.probe]) for engine in host.engines.values() if host.probe in engine.live]
            elif host.state and host.opened is None:
                times.append(host.probe_at)
            if host.state != "aside" and host.since:
                times.append(host.since + COMING_SECONDS)
        if self._left_since is not None:
            times.append(self._left_since + self.patience)
        return min((time for time in times if time > self._now), default=None)

    def state_of(self, engine: str) -> str:
        host = self._of.get(engine)
        if host is None or engine not in host.engines or host.engines[engine].phase != "ready":
            return ""
        return {"aside": "set aside", "held": "on hold"}.get(host.state, "")

    def _say(self, host: Host, what: m.Verdict) -> None:
        engines = tuple(name for name, engine in host.engines.items() if engine.phase != "gone")
        self.out.add(m.Judged(host.context.name, host.name, engines, what, host.row, host.pause, host.last))


def _offers(context: Context) -> bool:
    """Engines of it are on their way."""
    return context.asked > 0 and context.alive and not (context.detached or context.taken or context.spent)
