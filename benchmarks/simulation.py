"""How many records a second one driver can keep: the real scheduler and record writer, simulated engines and clock.

    python benchmarks/simulation.py [--engines 1000] [--slots 64] [--tasks 1000000] [--mean 10]
    python benchmarks/simulation.py --small [--tasks 200000]     one engine, 2 slots, short tasks, batches of about 10

Prints records/s over the whole run, the cost per task for each tenth of it, and the peak of resident memory. Task lengths are
log-normal. Only the driver's side is timed: the world's own work (which task ends next) is not.
"""

from __future__ import annotations

import argparse
import heapq
import random
import resource
import tempfile
import time
from collections import deque
from itertools import pairwise
from pathlib import Path

from taskrun.driver.recorder import Recorder
from taskrun.model import NO_REPEAT, Result, Task
from taskrun.scheduling import messages as m
from taskrun.scheduling.scheduler import Policy, Scheduler
from taskrun.status.events import EventsWriter
from taskrun.status.writer import StatusWriter

GATHER = 0.01  # seconds an agent gathers results
SPREAD = 1.0  # sigma of the log-normal lengths


class Agent:
    def __init__(self, name: str, slots: int) -> None:
        self.name = name
        self.free = slots
        self.queue: deque[m.Key] = deque()
        self.ended: list[tuple[m.Key, float, float]] = []
        self.taken: list[m.Key] = []
        self.report_at = 0.0


class Simulation:
    def __init__(self, folder: Path, engines: int, slots: int, tasks: int, mean: float) -> None:
        self.random = random.Random(1)
        self.mu = mean
        self.now = 0.0
        self.ends: list[tuple[float, int, Agent, m.Key | None, float]] = []  # (when, order, agent, key or None for its report, length)
        self.order = 0
        self.tasks = tasks
        self.read = 0
        self.spent = 0.0  # real seconds on the driver's side
        self.busy = 0.0  # CPU seconds there
        self.handling = 0.0  # of these, in handle()
        self.scheduler = Scheduler(Policy())
        self.status = StatusWriter(folder / "s_status.txt")
        self.events = EventsWriter(folder / "s_events.jsonl")
        self.recorder = Recorder(self.status, self.events, node_of=lambda engine: engine)
        self.agents = {f"node{number:04d}": Agent(f"node{number:04d}", slots) for number in range(engines)}
        self.slots = slots
        self.tenths: list[float] = []

    def run(self) -> None:
        self.handle(m.ContextJoined("c"))
        for rank, name in enumerate(self.agents):
            self.handle(m.EngineJoined(name, "c", rank, self.slots))
        self.feed()
        tick = 1.0
        done = 0
        while self.ends:
            when, _, agent, key, length = heapq.heappop(self.ends)
            while when > tick:
                self.now = tick
                tick += 1.0
                for name in self.agents:
                    self.handle(m.Heard(name))
                self.handle(m.Tick())
            self.now = when
            if key is not None:
                self.task_ends(agent, key, length)
                continue
            ended, agent.ended, agent.report_at = agent.ended, [], 0.0
            taken, agent.taken = agent.taken, []
            results = [
                Result(key[0], key[1], key[2], "ok", 0, 4711, 3, when - length, when, length, 0.5, 0.1, 5 << 20, 0, b"", 0, b"", False)
                for key, length in ended
            ]
            if taken:
                self.handle(m.Taken(agent.name, taken))
            self.handle(m.Results(agent.name, results))
            self.feed()
            done += len(results)
            while done * 10 >= self.tasks * (len(self.tenths) + 1):
                self.tenths.append(self.busy)
        while not self.scheduler.finished:
            for name in list(self.agents):
                self.handle(m.LinkClosed(name, "it left"))
        begun = time.perf_counter()
        self.status.close()
        self.events.close()
        self.spent += time.perf_counter() - begun

    def handle(self, event: m.Event) -> None:
        begun = time.perf_counter()
        busy = time.thread_time()
        actions = self.scheduler.handle(event, self.now)
        self.handling += time.thread_time() - busy
        for action in actions:
            if isinstance(action, m.Record):
                self.recorder.record(action)
        self.busy += time.thread_time() - busy
        self.spent += time.perf_counter() - begun
        for action in actions:
            if isinstance(action, m.Assign):
                agent = self.agents[action.engine]
                agent.queue.extend(key for key, _ in action.attempts)
                self.start(agent)
            elif isinstance(action, m.Recall):
                agent = self.agents[action.engine]
                self.handle(m.Recalled(agent.name, [agent.queue.pop() for _ in range(min(action.count, len(agent.queue)))]))

    def feed(self) -> None:
        """As the driver's loop does."""
        while self.read < self.tasks and (wanted := min(2000, self.scheduler.wanted)):
            count = min(wanted, self.tasks - self.read)
            items = [
                Task(number, number + 1, NO_REPEAT, b"/bin/true %d > /dev/null" % number) for number in range(self.read, self.read + count)
            ]
            self.read += count
            self.handle(m.Supply(items))  # type: ignore[arg-type]
            if self.read == self.tasks:
                self.handle(m.SupplyEnd())
        begun = time.perf_counter()
        busy = time.thread_time()
        self.events.flush()
        self.busy += time.thread_time() - busy
        self.spent += time.perf_counter() - begun

    def start(self, agent: Agent) -> None:
        while agent.free and agent.queue:
            key = agent.queue.popleft()
            agent.free -= 1
            agent.taken.append(key)
            length = self.random.lognormvariate(0, SPREAD) * self.mu / 1.65
            self.push(self.now + length, agent, key, length)

    def push(self, when: float, agent: Agent, key: m.Key | None, length: float) -> None:
        self.order += 1
        heapq.heappush(self.ends, (when, self.order, agent, key, length))

    def task_ends(self, agent: Agent, key: m.Key, length: float) -> None:
        agent.free += 1
        agent.ended.append((key, length))
        if not agent.report_at:
            agent.report_at = self.now + GATHER
            self.push(agent.report_at, agent, None, 0.0)
        self.start(agent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--mean", type=float, default=10.0, help="mean length of a task, seconds")
    parser.add_argument("--small", action="store_true", help="one engine, 2 slots, tasks of 2 ms")
    options = parser.parse_args()
    if options.small:
        options.engines, options.slots, options.mean = 1, 2, 0.002
    with tempfile.TemporaryDirectory() as folder:
        simulation = Simulation(Path(folder), options.engines, options.slots, options.tasks, options.mean)
        empty = peak_mb()
        simulation.run()
    counts = simulation.scheduler.counts
    assert counts.done == options.tasks
    a_task = 1e6 / options.tasks
    tenths = [after - before for before, after in pairwise([0.0, *simulation.tenths])]
    print(f"{options.engines} engines x {options.slots} slots, {options.tasks} tasks of {options.mean:g} s in the mean")
    print(f"{options.tasks / simulation.spent:,.0f} records/s")
    print(f"{simulation.busy * a_task:.1f} us CPU a task, {simulation.handling * a_task:.1f} of it in handle()")
    print("us a task, by tenths of the run: " + " ".join(f"{seconds * 10 * a_task:.1f}" for seconds in tenths))
    print(f"peak resident memory {peak_mb():.0f} MB ({empty:.0f} MB before the run)")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
