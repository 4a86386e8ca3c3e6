"""Rounds of random faults over three real SSH hosts: each is run and resumed until it is done, and its records must be true.

    python tests/faults/soak_hosts.py 100          seeds 0 to 99, one after the other
    python tests/faults/soak_hosts.py --seed 17    that one, with what it did

Every task holds a lock that its child holds, too, in a folder that all hosts share: one that runs beside itself is found out.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from faults.chain import Chain
from harness import MARK, Running, Taskrun, environment, kill, parent, processes
from ssh.sharing import Sharing
from ssh_hosts import SshHosts

TASKS = 48
LENGTH = 0.3  # seconds
FAULTS = 3  # in a round
RESUMES = 6
PATIENCE = 90.0  # seconds for one run
GONE = 15.0  # seconds for the last process on a host to go
FLAGS = ("-s", "host1:2,host2:2,host3:2", "--lost-after", "1.5", "--grace", "1")  # slots end their tasks after 1 s, the driver waits 4 s
NUMBERS = (1, 2, 3)

#: What is hit, and how: killed; or stopped, cut off, without power, suspended (Ctrl-Z) for some seconds.
KINDS = (
    "driver killed", "driver stopped", "driver suspended", "agent killed", "agent stopped", "slot killed", "slot stopped",
    "parallel killed", "session killed", "network cut", "host without power",
)  # fmt: skip
SHORT, LONG = (0.2, 0.8), (4.5, 6.0)  # seconds: nobody minds; longer than anybody waits


@dataclass
class Fault:
    kind: str
    host: int
    seconds: float
    notes: int  # of tasks, after which it comes

    def __str__(self) -> str:
        return f"{self.kind} (host{self.host}, {self.seconds:.2f} s) after {self.notes} notes"


def draw(seed: int, tasks: int) -> list[Fault]:
    """What happens in this round."""
    dice = random.Random(f"hosts {seed}")
    faults = [
        Fault(
            KINDS[(seed * FAULTS + number) % len(KINDS)] if seed < len(KINDS) else dice.choice(KINDS),
            dice.choice(NUMBERS),
            dice.uniform(*(LONG if dice.random() < 0.5 else SHORT)),
            dice.randrange(2, 2 * tasks - 20),
        )
        for number in range(FAULTS)
    ]
    return sorted(faults, key=lambda each: each.notes)


class Round:
    """One run, resumed until it is done. `taskrun`: in a folder of its own, with the hosts in its home's configuration."""

    def __init__(self, seed: int, taskrun: Taskrun, hosts: SshHosts, tasks: int = TASKS) -> None:
        self.taskrun = taskrun
        self.hosts = hosts
        self.sharing = Sharing(hosts, taskrun.folder)
        self.faults = draw(seed, tasks)
        self.dice = random.Random(f"victims {seed}")
        starter = self.dice.choice(("parallel", "builtin")) if shutil.which("parallel") else "builtin"
        if any(each.kind.startswith("parallel") for each in self.faults) and shutil.which("parallel"):
            starter = "parallel"
        self.chain = Chain(taskrun, tasks, LENGTH, (*FLAGS, "--starter", starter))
        self.said = [f"seed {seed}: {starter}", *(f"  drawn: {each}" for each in self.faults)]
        self.landed: Counter[str] = Counter()
        self.undo: list[tuple[float, Callable[[], object]]] = []  # when, what
        self.began = time.monotonic()

    def say(self, text: str) -> None:
        self.said.append(f"  {time.monotonic() - self.began:6.2f} s: {text}")

    def run(self) -> None:
        """Raises AssertionError when something is not as it must be."""
        self.sharing.share(*NUMBERS)
        try:
            while True:
                running = self.chain.start()
                self.watch(running)
                result = self.chain.finish(running)
                self.say(f"run {self.chain.runs} ended with {result.code}")
                if result.code == 0:
                    break
                assert result.code in (3, -signal.SIGKILL), f"exit code {result.code}:\n{result.err}"
                assert self.chain.runs <= RESUMES, f"resumed {RESUMES} times and not done:\n{result.err}"
                if not (self.taskrun.folder / f"{self.chain.prefix}_status.txt").exists():  # it was killed before it had begun
                    for path in self.taskrun.folder.glob(f"{self.chain.prefix}[_.]*"):
                        path.unlink()
                    self.chain.runs -= 1
            self.mend()
            end = time.monotonic() + GONE
            while left := {k: found for k in NUMBERS if (found := self.hosts.processes(k))}:
                assert time.monotonic() < end, f"left behind: {left}"
                time.sleep(0.05)
            self.chain.check()
            for running in self.taskrun.started:
                assert "Traceback" not in running.said()[1], running.said()[1]
        finally:
            self.mend()
            self.sharing.end(*NUMBERS)

    def watch(self, running: Running) -> None:
        end = time.monotonic() + PATIENCE
        while running.process.poll() is None:
            assert time.monotonic() < end, f"not done after {PATIENCE:g} s\n" + "\n".join(running.said())
            self.mend(time.monotonic())
            while self.faults and len(self.chain.notes()) >= self.faults[0].notes:
                fault = self.faults.pop(0)
                if self.strike(fault, running):
                    self.landed[fault.kind] += 1
                self.say(f"{fault}")
            time.sleep(0.01)

    def mend(self, now: float = float("inf")) -> None:
        """What is due; without `now` everything."""
        for due in [each for each in self.undo if each[0] <= now]:
            self.undo.remove(due)
            due[1]()

    def later(self, seconds: float, what: Callable[[], object]) -> None:
        self.undo.append((time.monotonic() + seconds, what))

    # --- the faults

    def strike(self, fault: Fault, running: Running) -> bool:
        """Whether there was something to be hit."""
        what, _, how = fault.kind.partition(" ")
        k = fault.host
        if what == "network":
            self.hosts.cut_host(k)
            self.later(fault.seconds, lambda: self.hosts.mend_host(k))
            return True
        if what == "host":
            self.hosts.kill_host(k)
            self.later(fault.seconds, lambda: self.revive(k))
            return True
        found = [running.pid] if what == "driver" else self.victims(what, k)
        if not found:
            return False
        try:
            fd = os.pidfd_open(self.dice.choice(found))
        except ProcessLookupError:
            return False
        number = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP, "suspended": signal.SIGTSTP}[how]
        if not send(fd, number) or how == "killed":
            os.close(fd)
            return how == "killed"
        self.later(fault.seconds, lambda: (send(fd, signal.SIGCONT), os.close(fd)))
        return True

    def revive(self, k: int) -> None:
        self.hosts.revive_host(k)
        self.sharing.share(k)

    def victims(self, what: str, k: int) -> list[int]:
        lines = self.hosts.processes(k)
        slots = [pid for pid, line in lines.items() if "slot.pyc" in line and "/s " in line]
        if what == "slot":
            return [pid for pid in slots if parent(pid) not in slots]  # a task's process looks like its slot until it is bash
        if what == "parallel":
            return [pid for pid, line in lines.items() if all(word in line for word in ("parallel", "--plain", "-u"))]
        if what == "session":
            return [pid for pid, line in lines.items() if line.startswith("sshd") and "notty" in line]
        agents = [pid for pid, line in lines.items() if line.startswith("taskrun agent ") and "(" not in line]
        return [max(agents)] if agents else []


def send(fd: int, number: int) -> bool:
    """Whether it was still there."""
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    return True


def one(seed: int, hosts: SshHosts, tasks: int) -> tuple[Counter[str], str, str]:
    """(what was hit, the story, '' or the error); what a failed one leaves stays."""
    folder = Path(tempfile.mkdtemp(prefix="h"))
    mark = uuid.uuid4().hex
    for name in ("home", "run", "tmp"):
        (folder / name).mkdir()
    taskrun = Taskrun(folder / "run", environment(folder / "home") | {MARK: mark, "TMPDIR": str(folder / "tmp")})
    taskrun.env.update(hosts.install(folder / "home"))
    soak = Round(seed, taskrun, hosts, tasks)
    error = ""
    try:
        soak.run()
    except BaseException as problem:  # whatever it is, pytest's own failures too, it is told with its seed
        if isinstance(problem, KeyboardInterrupt):
            raise
        error = f"{traceback.format_exc()}kept: {folder}\n"
    finally:
        kill(processes(mark))
        taskrun.close()
        hosts.reset()
    if not error:
        shutil.rmtree(folder)
    return soak.landed, "\n".join(soak.said), error


def main() -> int:
    parser = argparse.ArgumentParser(description="Random faults over three SSH hosts, and a look whether the records are true.")
    parser.add_argument("rounds", nargs="?", type=int, default=100)
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--tasks", type=int, default=TASKS, help="in each round")
    options = parser.parse_args()
    os.environ.setdefault(MARK, uuid.uuid4().hex)
    os.environ.setdefault("TMPDIR", tempfile.gettempdir())
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.rounds)
    landed: Counter[str] = Counter()
    failed: list[int] = []
    began = time.monotonic()
    hosts = SshHosts()
    try:
        for number, seed in enumerate(seeds, 1):
            hit, story, error = one(seed, hosts, options.tasks)
            landed += hit
            if error:
                failed.append(seed)
            if error or options.seed is not None:
                print(story, error or "  all is well", sep="\n", flush=True)
            if number % 10 == 0 or number == len(seeds):
                print(f"{number} of {len(seeds)} rounds, {len(failed)} failed, {time.monotonic() - began:.0f} s", flush=True)
    finally:
        hosts.close()
    print(", ".join(f"{name} {count}" for name, count in sorted(landed.items())))
    print(f"failed seeds: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
