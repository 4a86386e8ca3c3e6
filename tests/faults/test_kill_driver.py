"""kill -9 of the driver at any moment: nothing is lost, nothing runs twice at the same time, nothing is left."""

from __future__ import annotations

import random
import time

import pytest
from faults.chain import Chain, kill
from harness import Taskrun, until

MOMENTS = 20
SEED = 20
TASKS = 300


@pytest.mark.timeout(150)
@pytest.mark.parametrize("starter", ["parallel", "builtin"])
def test_at_twenty_moments_of_one_run(taskrun: Taskrun, starter: str) -> None:
    """Ten moments each: killed, looked after, resumed, killed again … until it is done."""
    moments = random.Random(f"{SEED} {starter}")
    chain = Chain(taskrun, TASKS, 0.04, ("-s", "localhost:4", "--starter", starter))
    said = []
    for _ in range(MOMENTS // 2):
        running = chain.start()
        # from before its first file to the last task
        moment = moments.choice((0.0, 0.1, 0.2, 0.3)) + moments.random() * 0.6
        said.append(f"{moment:.3f}")
        time.sleep(moment)
        if running.process.poll() is not None:
            break
        kill(running.pid)
        running.process.wait()
        chain.nothing_is_left()
        chain = _continued(chain)
    print(f"seed {SEED} {starter}: killed after", *said, "s")
    result = chain.finish(chain.start())
    assert result.code == 0, result.err
    chain.nothing_is_left()
    chain.check()


def _continued(chain: Chain) -> Chain:
    """A run that was killed before it had its files cannot be resumed: the next one takes its place."""
    folder = chain.folder
    while chain.runs and not (folder / f"{chain.prefix}_status.txt").exists():
        for path in folder.glob(f"{chain.prefix}[_.]*"):
            path.unlink()
        chain.runs -= 1
    return chain


def test_a_resume_at_once_waits_for_what_still_ends(taskrun: Taskrun) -> None:
    """Tasks that take their time to end: the resume starts none of them before they are gone."""
    chain = Chain(taskrun, 4, 3.0)
    text = (chain.folder / "task.sh").read_text().replace("set -u\n", "set -u\ntrap 'sleep 1.5; note told; exit' TERM\n")
    (chain.folder / "task.sh").write_text(text.replace('sleep "$1"', 'sleep "$1" & wait $!'))
    running = chain.start()
    while len(chain.notes()) < 4:
        time.sleep(0.02)
    kill(running.pid)
    running.process.wait()
    resumed = chain.start()
    result = chain.finish(resumed)
    assert result.code == 0, result.err
    assert "waiting for the last tasks of the earlier run to end" in result.err
    kinds = [note[0] for note in chain.notes()]
    assert kinds == ["start"] * 4 + ["told"] * 4 + ["start"] * 4 + ["end"] * 4
    chain.check()
    chain.nothing_is_left()


def test_a_resume_removes_what_the_killed_run_has_left(taskrun: Taskrun) -> None:
    """Its attach file, which is a secret, its script and its engine's log; in the same file or in a new one."""
    taskrun.write({"tasks.txt": "[ -e go ] || sleep 60\n" * 2})
    running = taskrun.start("tasks.txt", "-s", "localhost:2", "-p", "run")
    left = [taskrun.folder / f"run_{name}" for name in ("attach.json", "dbUtil.sh")]
    until(lambda: all(path.exists() for path in left), what="the door to open")
    kill(running.pid)
    running.process.wait()
    (taskrun.folder / "go").touch()
    assert all(path.exists() for path in left)
    result = taskrun("-r", "run_status.txt", "-p", "two")
    assert result.code == 0, result.err
    files = {path.name for path in taskrun.folder.iterdir()}
    kept = {f"{prefix}_{name}" for prefix in ("run", "two") for name in ("status.txt", "run.json", "events.jsonl", "driver.log")}
    assert files - {"tasks.txt", "go"} == kept
    assert "run_attach.json was removed: a killed run had left it" in (taskrun.folder / "two_driver.log").read_text()
