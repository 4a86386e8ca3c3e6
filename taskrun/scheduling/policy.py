"""What the person asked for, and the times and counts that truth.md gives."""

from __future__ import annotations

from typing import NamedTuple

SUSPECT_HOLD = 0.5  # seconds a result that looks like the system's doing waits for the news that the step was told to stop
LOST_MARGIN = 2.0  # seconds beyond the grace after which the tasks of a closed link have ended for certain
END_MARGIN = 3.0  # seconds beyond the grace in which an engine that was told to end its tasks has said so
LIFE_SHARE = 2 / 3  # A of B: a slot ends its task after this share of the silence after which its engine is given up
SILENT_MOST = 20  # engines of a node lost in a row, without one task's result, for reasons that are no task's and not the agent's own end
READ_SECONDS = 5.0  # for an engine's last words to be read after the driver did not run: no silence is judged before
STEAL_PAUSE = 0.05  # seconds between two looks for tasks to move from a busy engine to an idle one


class Policy(NamedTuple):
    fail_fast: bool = False
    crash_limit: int = 3  # deaths of an engine that are charged to a task until it is given up
    grace: float = 5.0  # seconds from TERM to KILL
    lost_after: float = 180.0  # seconds of silence after which an engine's tasks run elsewhere (B)
    wait_for_engines: float = 0.0  # seconds to wait with no engine left
    sick_after: int = 5  # tasks of a host that fail one after another, within seconds, before it is set aside; 0: it never is
    probe_pause: float = 60.0  # seconds to its first probe
    open_ended: bool = False  # contexts are to come from elsewhere: that those that came are spent is no end

    @property
    def node_failures(self) -> int:
        """Engines of a node that died in a row, without one task's result and charged to nobody, before it is set aside."""
        return self.crash_limit + 1

    @property
    def charged_most(self) -> int:
        """The same of those that were charged to tasks: what kills one after the other, whatever it runs, is the node."""
        return 4 * self.crash_limit

    @property
    def orphaned_after(self) -> float:
        """A driver that did not run for so long may be why an engine has ended: an agent waits for A, and from the last beat on."""
        return LIFE_SHARE * self.lost_after / 2

    @property
    def silence(self) -> float:
        """B, but never before the slots have ended their tasks by their own deadline: A, then TERM, 2 s, KILL."""
        return max(self.lost_after, LIFE_SHARE * self.lost_after + LOST_MARGIN + 1.0)
