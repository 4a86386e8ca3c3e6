"""The soak: runs of 300 tasks in which something is killed, or stopped and continued, at moments drawn from a seed.

    python tests/faults/soak.py 1000           seeds 0 to 999, several at a time
    python tests/faults/soak.py --seed 17      that one, with what it did

Each is run and resumed until it is done; then everything that truth demands of it is looked at: the chain of status files against what
the tasks themselves have noted. What a failed one leaves is kept for a look.
"""

from __future__ import annotations

import argparse
import concurrent.futures
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
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import MARK, Record, Running, Taskrun, environment, kill, parent, processes, read_status

TASKS = 300
LONG = 24  # of them: these have a child, and are long enough to be hit
PATIENCE = 90.0  # seconds for one run and all its resumes
GONE = 15.0  # seconds for the last process to go
RESUMES = 6
SLOTS = 4
FLAGS = ("--lost-after", "1.5", "--grace", "1")  # the slots' own deadline is then 1 s, the driver's 4 s

VICTIMS = ("driver", "agent", "parallel", "slot", "bash", "child")

#: A short task: one bash, no other program. What runs beside another copy of itself is seen by the order of the notes.
SHORT = """\
printf 'start %s %s\\n' "$TASKRUN_TASKID" "$TASKRUN_ATTEMPT" >> notes
read -r -t "$LENGTH" <> pause
printf 'end %s %s\\n' "$TASKRUN_TASKID" "$TASKRUN_ATTEMPT" >> notes
"""

#: A long one: it holds a lock, and so does its child, whoever of them lives longer. Without its slot it does not end by itself for long.
LONGER = """\
note() { printf '%s %s %s\\n' "$1" "$TASKRUN_TASKID" "$TASKRUN_ATTEMPT" >> notes; }
exec 8>> "locks/$TASKRUN_TASKID"
flock -n 8
[ $? -ne 1 ] || note overlap
note start
sleep "$LENGTH" || exit
read -r _ _ _ parent _ < /proc/$$/stat
[ "$parent" = $PPID ] || sleep 20
note end
"""


@dataclass
class Hit:
    """One blow."""

    victim: str
    pause: float | None  # stopped for so long; None: killed
    after: float  # seconds since the first start
    notes: int  # and so many notes of tasks: what comes later of the two

    def __str__(self) -> str:
        done = "killed" if self.pause is None else f"stopped for {self.pause:.2f} s"
        return f"{self.victim} {done} after {self.after:.2f} s and {self.notes} notes"


def draw(seed: int) -> tuple[str, bool, list[Hit]]:
    """What happens in the run of this seed: its starter, whether a resume comes at once, the blows."""
    dice = random.Random(f"soak {seed}")
    hits: list[Hit] = []
    for _ in range(dice.choice((1, 2))):
        victim = dice.choice(VICTIMS)
        pause = None
        if dice.random() < 0.5:
            pause = dice.uniform(1.0, 5.0) if dice.random() < 0.25 else dice.uniform(0.02, 0.6)
        early = dice.random() < 0.25  # while it is being started; else somewhere on the way
        after, notes = (dice.uniform(0.0, 0.8), 0) if early else (0.0, dice.randrange(2 * TASKS - 20))
        if hits and dice.random() < 0.5:  # both at once
            after, notes = hits[0].after, hits[0].notes
        hits.append(Hit(victim, pause, after, notes))
    with_parallel = dice.random() < 0.5 or any(hit.victim == "parallel" for hit in hits)
    starter = "parallel" if with_parallel and shutil.which("parallel") else "builtin"
    hits.sort(key=lambda hit: (hit.notes, hit.after))
    return starter, dice.random() < 0.5, hits


def task_file(seed: int) -> str:
    dice = random.Random(f"soak tasks {seed}")
    long = set(dice.sample(range(TASKS), LONG))
    lines = []
    for number in range(TASKS):
        name, length = ("long.sh", dice.uniform(0.05, 0.2)) if number in long else ("short.sh", dice.uniform(0.001, 0.008))
        lines.append(f"LENGTH={length:.4f}; . ./{name}\n")
    return "".join(lines)


@dataclass
class Soak:
    """One run, resumed until it is done."""

    seed: int
    folder: Path  # of its own, with a short path
    said: list[str] = field(default_factory=list)
    landed: Counter[str] = field(default_factory=Counter)
    hurt: set[str] = field(default_factory=set)  # attempts of which a process was killed by us
    runs: int = 0

    def __post_init__(self) -> None:
        self.starter, self.at_once, self.hits = draw(self.seed)
        self.said.append(f"seed {self.seed}: {self.starter}, resume {'at once' if self.at_once else 'when all is gone'}")
        self.said += [f"  drawn: {hit}" for hit in self.hits]
        self.mark = uuid.uuid4().hex
        self.temporary = self.folder / "t"
        self.work = self.folder / "w"
        for path in (self.temporary, self.work, self.work / "locks", self.folder / "h"):
            path.mkdir()
        env = environment(self.folder / "h") | {MARK: self.mark, "TMPDIR": str(self.temporary)}
        self.taskrun = Taskrun(self.work, env)
        self.taskrun.write({"tasks.txt": task_file(self.seed), "short.sh": SHORT, "long.sh": LONGER, "notes": ""})
        os.mkfifo(self.work / "pause")
        self.began = 0.0
        self.conts: list[tuple[float, int]] = []  # when, and a pidfd of what is stopped

    # --- doing

    def run(self) -> None:
        """Raises AssertionError when something is not as it must be."""
        self.began = time.monotonic()
        try:
            while True:
                running = self.start()
                code = self.watch(running)
                self.say(f"run {self.runs} ended with {code}")
                if code == 0:
                    break
                out = "\n".join(running.said())
                assert code in (3, -signal.SIGKILL), f"exit code {code}:\n{out}"
                assert self.runs <= RESUMES, f"resumed {RESUMES} times and not done:\n{out}"
                if code == 3 or not self.at_once:
                    self.nothing_is_left()
                self.forget_if_it_never_was()
            self.nothing_is_left()
            self.check()
        finally:
            for _, fd in self.conts:
                signal.pidfd_send_signal(fd, signal.SIGCONT)
                os.close(fd)
            kill(processes(self.mark))
            self.taskrun.close()

    def say(self, text: str) -> None:
        self.said.append(f"  {time.monotonic() - self.began:6.3f} s: {text}")

    def start(self) -> Running:
        self.runs += 1
        flags = (*FLAGS, "--starter", self.starter, "-p", f"run{self.runs}")
        if self.runs > 1:
            return self.taskrun.start("-r", f"run{self.runs - 1}_status.txt", *flags)
        return self.taskrun.start("tasks.txt", "-s", f"localhost:{SLOTS}", *flags)

    def watch(self, running: Running) -> int:
        """Until this one has ended; its blows come in their time."""
        while (code := running.process.poll()) is None:
            self.step(running)
            if time.monotonic() - self.began > PATIENCE:
                raise AssertionError(f"not done after {PATIENCE:g} s: {self.alive()}\n" + "\n".join(running.said()))
            time.sleep(0.005)
        return code

    def step(self, running: Running | None) -> None:
        now = time.monotonic() - self.began
        for due in [each for each in self.conts if each[0] <= now]:
            self.conts.remove(due)
            self.say("continued")
            try:
                signal.pidfd_send_signal(due[1], signal.SIGCONT)
            except ProcessLookupError:
                self.say("… it had ended")
            os.close(due[1])
        if running is None or not self.hits:
            return
        notes = (self.work / "notes").read_bytes().count(b"\n") if self.hits[0].notes else 0
        while self.hits and now >= self.hits[0].after and notes >= self.hits[0].notes:
            self.strike(self.hits.pop(0), running)

    def strike(self, hit: Hit, running: Running) -> None:
        dice = random.Random(f"{self.seed} {len(self.hits)}")
        until = time.monotonic() + 0.4
        while True:
            found = self.find(hit.victim, running)
            if found:
                pid, attempt = dice.choice(found)
                if self.hit(hit, pid, attempt):
                    return
            if time.monotonic() > until or running.process.poll() is not None:
                self.say(f"no {hit.victim} to be hit")
                return
            time.sleep(0.002)

    def hit(self, hit: Hit, pid: int, attempt: str) -> bool:
        """By a descriptor of the process, looked at again: nobody else is ever hit."""
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            env = _environment(pid)
            if env.get(MARK) != self.mark or env.get("TASKRUN_ATTEMPT", "") != attempt:
                return False
            signal.pidfd_send_signal(fd, signal.SIGKILL if hit.pause is None else signal.SIGSTOP)
            if hit.pause is None:
                self.say(f"killed {hit.victim} {pid} {attempt}")
                if attempt:
                    self.hurt.add(attempt)
            else:
                self.say(f"stopped {hit.victim} {pid} {attempt} for {hit.pause:.2f} s")
                self.conts.append((time.monotonic() - self.began + hit.pause, os.dup(fd)))
        except ProcessLookupError:
            return False
        finally:
            os.close(fd)
        self.landed[f"{hit.victim} {'killed' if hit.pause is None else 'stopped'}"] += 1
        return True

    def find(self, victim: str, running: Running) -> list[tuple[int, str]]:
        """(process, attempt) of all of its kind."""
        if victim == "driver":
            return [(running.pid, "")]
        lines = self.alive()
        if victim == "agent":
            return sorted((pid, "") for pid, line in lines.items() if "agent.main" in line)
        if victim == "parallel":
            return sorted((pid, "") for pid, line in lines.items() if all(word in line for word in ("parallel", "--plain", "-u")))
        slots = {pid for pid, line in lines.items() if "slot.pyc" in line and "/s " in line}
        slots -= {pid for pid in slots if parent(pid) in slots}  # a task's process looks like its slot until it is bash
        if victim == "slot":
            return sorted((pid, "") for pid in slots)
        attempts = {pid: _environment(pid).get("TASKRUN_ATTEMPT", "") for pid in lines}
        bashes = {pid for pid, attempt in attempts.items() if attempt and parent(pid) in slots}
        wanted = bashes if victim == "bash" else {pid for pid, attempt in attempts.items() if attempt and parent(pid) in bashes}
        return sorted((pid, attempts[pid]) for pid in wanted)

    def alive(self) -> dict[int, str]:
        return {pid: line for pid, line in processes(self.mark).items() if line}

    def nothing_is_left(self) -> None:
        """No process and no temporary file of it, soon after the last stopped one goes on."""
        until = max([time.monotonic(), *(self.began + due for due, _ in self.conts)]) + GONE
        while (left := self.alive()) or self.conts or any(self.temporary.iterdir()):
            self.step(None)
            assert time.monotonic() < until, f"left behind: {left} {sorted(map(str, self.temporary.rglob('*')))}"
            time.sleep(0.01)

    def forget_if_it_never_was(self) -> None:
        """What was killed before it had its files cannot be resumed: the next one takes its place."""
        while self.runs and not (self.work / f"run{self.runs}_status.txt").exists():
            for path in self.work.glob(f"run{self.runs}[_.]*"):
                path.unlink()
            self.runs -= 1

    # --- looking

    def check(self) -> None:
        """Nothing lost, nothing recorded runs again, nothing overlaps itself, and the status files are true."""
        notes = [line.split() for line in (self.work / "notes").read_text().splitlines()]
        started: dict[int, list[str]] = {number: [] for number in range(TASKS)}  # task -> its attempts, in their order
        ended: dict[int, str] = {}  # task -> the attempt that came to its end last
        for what, number, attempt in notes:
            task = int(number)
            assert what != "overlap", f"two attempts of task {task} at the same time: {started[task]}, {attempt}"
            if what == "start":
                assert attempt not in started[task], f"{attempt} has started twice"
                started[task].append(attempt)
            else:
                assert started[task][-1:] == [attempt], f"{attempt} ended after another had started: {started[task]}"
                ended[task] = attempt
        chain: dict[int, Record] = {}
        final: Counter[int] = Counter()
        for number in range(1, self.runs + 1):
            for record in read_status(self.work / f"run{number}_status.txt"):
                task = record["TaskID"]
                if record["Flags"][3] == "S":
                    assert task in chain, f"run {number} skips task {task}, which has no record"
                    assert record["ReturnCode"] == chain[task]["ReturnCode"]
                else:
                    final[task] += 1
                    assert final[task] == 1, f"task {task} has two records"
                chain[task] = record
        assert sorted(chain) == list(range(TASKS)), f"without a record: {sorted(set(range(TASKS)) - set(chain))}"
        for task, record in chain.items():
            last = started[task][-1:]
            if record["ReturnCode"] == 0:
                assert last == [ended.get(task)], f"task {task} is recorded as done: started {started[task]}, ended {ended.get(task)}"
                continue
            hurt = {attempt for attempt in self.hurt if attempt.split(".")[-2] == str(task)}
            unseen = hurt - set(started[task])  # killed before it could note anything
            assert unseen or (last and last[0] in hurt), f"task {task} has failed, nobody hit it: {record}"
            assert record["ReturnCode"] in (-9, 137), record
        # (the lock that a killed resume held of the run before it is nobody's and in nobody's way)
        locks = sorted(path.name for path in self.work.glob(f"run{self.runs}.lock*"))
        assert not locks, f"left behind: {locks}"
        for path in self.work.glob("*_driver.log"):
            assert "Traceback" not in path.read_text(errors="replace"), path.read_text(errors="replace")
        for running in self.taskrun.started:
            assert "Traceback" not in running.said()[1], running.said()[1]


def _environment(pid: int) -> dict[str, str]:
    try:
        block = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (os.fsdecode(pair).partition("=") for pair in block.split(b"\0"))
    return {name: value for name, _, value in pairs}


# --- many


@dataclass
class Outcome:
    seed: int
    seconds: float
    runs: int
    landed: Counter[str]
    story: str
    error: str  # '' when all is well


def one(seed: int, *, keep: bool = False) -> Outcome:
    """The run of this seed. `keep`: what a failed one leaves stays."""
    folder = Path(tempfile.mkdtemp(prefix="s"))
    began = time.monotonic()
    soak = Soak(seed, folder)
    error = ""
    try:
        soak.run()
    except Exception:  # noqa: BLE001 - whatever it is, it is told with its seed
        error = traceback.format_exc()
    outcome = Outcome(seed, time.monotonic() - began, len(soak.taskrun.started), soak.landed, "\n".join(soak.said), error)
    if error and keep:
        outcome.error += f"kept: {folder}\n"
    else:
        shutil.rmtree(folder)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description="Kills and stops whatever takes part in a run, and looks whether the records are true.")
    parser.add_argument("runs", nargs="?", type=int, default=1000)
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="runs at a time")
    options = parser.parse_args()
    os.environ.setdefault(MARK, uuid.uuid4().hex)
    os.environ.setdefault("TMPDIR", tempfile.gettempdir())
    if options.seed is not None:
        outcome = one(options.seed, keep=True)
        print(outcome.story, outcome.error or f"  all is well, {outcome.seconds:.1f} s", sep="\n")
        return 1 if outcome.error else 0
    seeds = range(options.first, options.first + options.runs)
    landed: Counter[str] = Counter()
    failed: list[int] = []
    seconds = 0.0
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for number, outcome in enumerate(pool.map(lambda seed: one(seed, keep=True), seeds), 1):
            landed += outcome.landed
            seconds += outcome.seconds
            if outcome.error:
                failed.append(outcome.seed)
                print(outcome.story, outcome.error, f"  again: python tests/faults/soak.py --seed {outcome.seed}", sep="\n", flush=True)
            if number % 50 == 0 or number == len(seeds):
                print(f"{number} of {len(seeds)} runs, {len(failed)} failed, {time.monotonic() - began:.0f} s", flush=True)
    print(", ".join(f"{name} {count}" for name, count in sorted(landed.items())))
    print(f"{seconds / max(1, len(seeds)):.1f} s each; failed seeds: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
