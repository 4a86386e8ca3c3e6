"""Lost nodes, jobs that are stopped and started again, a controller that is away: each task ends once, and never runs twice at a time."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.test_blame import KILL
from harness import ROOT, Taskrun, until
from slurm.jobs import Job, Jobs, check_once
from slurm_cluster import SlurmCluster

from taskrun.driver.retire import SLURM_COMMAND

EXAMPLES = ROOT / "examples" / "slurm"
WORK = '#TASKRUN REPEAT {} echo "start $TASKRUN_TASKID" >> notes; sleep {}; echo "end $TASKRUN_TASKID" >> notes\n'


def started(jobs: Jobs, tasks: int) -> None:
    """Waits until so many tasks have started."""
    notes = jobs.folder / "notes"
    until(lambda: notes.exists() and notes.read_text().count("start") >= tasks, 30, f"{tasks} tasks to start")


@pytest.mark.timeout(120)
def test_a_node_without_power_and_one_that_slurm_calls_down(jobs: Jobs) -> None:
    """One sentence each; what they ran runs elsewhere when it must have ended; what srun says of it goes to the engines' logs."""
    job = jobs.submit("-N3", "--no-kill", "-w", "node[1-3]", "--wrap", "exec taskrun tasks.txt -p run --lost-after 9",
                      files={"tasks.txt": WORK.format(12, 2)})  # fmt: skip
    started(jobs, 3)
    jobs.cluster.kill_node(2)
    jobs.run("scontrol", "update", "NodeName=node3", "State=DOWN", "Reason=test")
    try:
        until(lambda: "node2" in job.output, 30, "its silence to be noticed")
        jobs.cluster.revive_node(2)
        assert job.wait() == "COMPLETED", job.output
    finally:
        jobs.run("scontrol", "update", "NodeName=node3", "State=RESUME")
        jobs.sweep()
    told = sorted(line for line in job.output.splitlines() if "node" in line)
    assert re.fullmatch(r"taskrun: node2: the engine is lost: nothing was heard for \d+ s", told[0])
    assert told[1:] == ["taskrun: node3: SLURM has lost this node; what it ran runs elsewhere when it has been silent for long enough"]
    check_once(jobs, 12)
    said = {k: "".join(path.read_text() for path in jobs.folder.glob(f"run_node{k}_*.log")) for k in (1, 2, 3)}
    assert not said[1]
    assert "srun: error: " in said[2]
    assert "Node failure on node3" in said[3]


@pytest.mark.timeout(120)
def test_one_that_kills_its_agent_is_given_up_and_a_node_that_boots_charges_nobody(jobs: Jobs) -> None:
    held = "until [ -e go ]; do sleep 0.1; done; "
    tasks = f"echo start >> notes; {held}{KILL}\n" + WORK.format(6, 1).replace("sleep", f"{held}sleep")
    job = jobs.submit("-N2", "--no-kill", "-w", "node[1-2]", "--wrap", "exec taskrun tasks.txt -p run --lost-after 2 --grace 0 "
                      "--starter builtin", files={"tasks.txt": tasks})  # fmt: skip
    started(jobs, 2)  # both slots are taken
    jobs.cluster.kill_node(2)
    jobs.cluster.revive_node(2)
    lost = until(lambda: [each for each in jobs.events("attempt") if each["cause"] == "engine-lost"], 30, "the loss")
    assert not [each for each in lost if "blame" in each]
    (jobs.folder / "go").touch()
    assert job.wait(100) == "COMPLETED", job.output
    jobs.sweep()
    assert {each["TaskID"]: each["ReturnCode"] for each in jobs.records()} == {0: -100, **dict.fromkeys(range(1, 7), 0)}
    charged = [each["id"] for each in jobs.events("attempt") if each.get("blame") == "charged"]
    assert charged.count(0) == 3
    assert all(charged.count(number) == 1 for number in {*charged} - {0})


@pytest.mark.timeout(120)
def test_a_node_whose_network_is_cut(jobs: Jobs) -> None:
    """It goes on as an island: its tasks end by its slots' own clocks before they run elsewhere."""
    text = "echo start $(date +%s.%N) >> {0}/$TASKRUN_TASKID; sleep 3; echo end $(date +%s.%N) >> {0}/$TASKRUN_TASKID\n"
    times = jobs.folder / "times"
    times.mkdir()
    job = jobs.submit(
        "-N3", "--no-kill", "--wrap", "exec taskrun tasks.txt -p run --lost-after 6", files={"tasks.txt": text.format(times) * 6}
    )
    until(lambda: len(list(times.iterdir())) >= 3, 30, "three tasks to start")
    jobs.cluster.cut_node(2)
    assert job.wait() == "COMPLETED", job.output
    jobs.sweep()
    check_once(jobs, 6)
    assert "taskrun: node2: the engine is lost: nothing was heard for" in job.output
    for path in times.iterdir():
        lines = [line.split() for line in path.read_text().splitlines()]
        ends = [float(when) for what, when in lines if what == "end"]
        starts = [float(when) for what, when in lines if what == "start"]
        assert starts[-1] >= max([end for end in ends if end != ends[-1]], default=0.0), "two attempts at a time"


@pytest.mark.timeout(120)
def test_a_killed_srun_and_a_killed_slurmd(jobs: Jobs) -> None:
    """Without slurmd nothing changes. Without its srun the engine is lost, and another one takes its place."""
    job = jobs.submit("-N2", "--no-kill", "-w", "node[1-2]", "--wrap", "exec taskrun tasks.txt -p run --lost-after 6",
                      files={"tasks.txt": WORK.format(6, 2)})  # fmt: skip
    started(jobs, 2)
    jobs.cluster.kill_slurmd(2)
    pids = [pid for pid, line in jobs.cluster.processes(1).items() if line.startswith("srun -N1 -n1 -w node2")]
    assert pids
    jobs.cluster.revive_node(2)
    os.kill(min(pids), signal.SIGKILL)
    assert job.wait() == "COMPLETED", job.output
    assert "node2: a new agent takes the place of the lost one\n" in jobs.log()
    check_once(jobs, 6)


@pytest.mark.long
@pytest.mark.timeout(180)
def test_preemption(jobs: Jobs) -> None:
    """The example low.sh: tasks are given back, STOP commands run, SLURM ends it and starts it again, and it goes on in its own file."""
    (jobs.folder / "low.sh").write_bytes((EXAMPLES / "low.sh").read_bytes())
    jobs.taskrun.write({"primes.txt": "#PERENGINE STOP hostname >> stops\n" + (EXAMPLES / "primes.txt").read_text()})
    jobs.taskrun.env["LENGTH"] = "0.5"
    low = jobs.submit("low.sh")
    until(lambda: len(list((jobs.folder / "primes").glob("*.txt"))) >= 4, 30, "tasks to end")
    high = jobs.submit("-N3", "--exclusive", "--wrap", "true")
    assert high.wait(80) == "COMPLETED"
    jobs.sweep()
    assert "taskrun: stopped: the allocation is taken back\n" in low.output
    assert "taskrun: SLURM takes this job's nodes for another one, and starts it again later\n" in low.output
    prefix = f"primes.txt_{low.number}"
    assert [each["exit_code"] for each in jobs.events("run", prefix) if each["what"] == "end"] == [3]
    stopped = [each["Node"] for each in jobs.records(prefix) if each["Flags"] == "   P"]
    assert sorted(stopped) == sorted((jobs.folder / "stops").read_text().split()) == ["node1", "node2"]
    jobs.taskrun.env.pop("LENGTH")
    assert low.wait(80) == "COMPLETED", low.output
    assert "taskrun: SLURM has started this job again: it goes on with primes.txt_" in low.output
    check_once(jobs, 24, prefix)
    assert len(list((jobs.folder / "primes").glob("*.txt"))) == 24


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_time_is_over(jobs: Jobs) -> None:
    """Nothing starts that could not end, the rest is given back in order, and --requeue has the job started again.

    Its time limit is changed while it runs, each time: to a minute first, then to ten.
    """
    text = "#TASKRUN PERENGINE STOP echo stop >> notes\n" + WORK.format(66, 2)
    jobs.taskrun.write({"job": "#!/bin/bash\nexec taskrun tasks.txt -p run --grace 13 --task-time 4 --requeue\n"})
    job = jobs.submit("-N3", "--time=10", "--requeue", "job", files={"tasks.txt": text})
    started(jobs, 3)
    jobs.run("scontrol", "update", f"JobId={job.number}", "TimeLimit=1")
    until(lambda: "SLURM is asked to start this job again (--requeue)\n" in job.output, 120, "the end of its time")
    before = (jobs.folder / "notes").read_text()
    assert before.count("stop\n") == 3
    assert [each["exit_code"] for each in jobs.events("run") if each["what"] == "end"] == [3]
    assert before.count("start") == before.count("end"), "nothing had to be cut short"
    waits = [each["why"] for each in jobs.events("wait")]
    assert "the allocation ends too soon for another task: a task takes 4 s" in waits
    assert "taskrun: stopped: the allocation ends too soon for another task: a task takes 4 s\n" in job.output
    assert "taskrun: the allocation ends too soon for another task: a task takes 4 s; nothing more starts\n" in job.output
    assert jobs.records()
    records = len(jobs.records())
    until(lambda: len(jobs.records()) > records, 60, "a record of the second start")
    jobs.run("scontrol", "update", f"JobId={job.number}", "TimeLimit=10")
    assert job.wait(80) == "COMPLETED", job.output
    assert job.output.count("taskrun: SLURM has changed the time of this job: it ends at 20") == 2
    assert job.output.count("taskrun: stopped") == 1
    check_once(jobs, 66)


@pytest.mark.long
@pytest.mark.timeout(180)
def test_a_job_whose_time_is_too_short_for_any_task_is_not_started_again(jobs: Jobs) -> None:
    job = jobs.submit("-n1", "--time=1", "--requeue", "--wrap", "exec taskrun tasks.txt -p run --requeue --task-time 2m",
                      files={"tasks.txt": "true\n"})  # fmt: skip
    assert job.wait() == "FAILED"
    assert "stopped: the allocation ends too soon for another task: a task takes 2 min\n" in job.output
    assert "so it is not started again: submit it anew with more --time" in job.output


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_job_that_makes_no_progress_is_not_started_for_ever(jobs: Jobs) -> None:
    """Its tasks need more than its time: two starts show that."""
    job = jobs.submit("-N2", "--time=1", "--requeue", "--wrap", "exec taskrun tasks.txt -p run --requeue --grace 15",
                      files={"tasks.txt": WORK.format(4, 200)})  # fmt: skip
    assert job.wait(200) == "FAILED", job.output
    said = "no task ended in two starts: tasks need more than the job's time; raise --time\n"
    assert job.output.endswith(f"taskrun: {said}"), job.output
    assert "ExitCode=3:0" in jobs.run("scontrol", "show", "job", job.number).stdout
    assert job.output.count("SLURM is asked to start this job again (--requeue)\n") == 1
    assert jobs.log().endswith(said)
    assert (jobs.folder / "notes").read_text().count("start") == 4


@pytest.mark.long
@pytest.mark.timeout(180)
def test_the_drivers_node_is_lost(jobs: Jobs) -> None:
    """With --no-kill SLURM lets the job go on without the node of its script: an agent that hears nothing has it started again."""
    job = jobs.submit("-N2", "-w", "node[1-2]", "--no-kill", "--requeue", "--wrap", "exec taskrun tasks.txt -p run --lost-after 15",
                      files={"tasks.txt": WORK.format(6, 3)})  # fmt: skip
    started(jobs, 2)
    jobs.cluster.kill_node(1)
    until(lambda: job.state == "PENDING", 90, "the job to be started again")
    jobs.cluster.revive_node(1)
    jobs.sweep()
    assert job.wait(90) == "COMPLETED", job.output
    jobs.sweep()
    assert "taskrun: SLURM has started this job again: it goes on with run_status.txt\n" in job.output
    check_once(jobs, 6)


@pytest.mark.timeout(120)
def test_the_controller_is_away(jobs: Jobs) -> None:
    """Nothing stops; what is asked meanwhile is asked again."""
    job = jobs.submit("-N2", "--wrap", "exec taskrun tasks.txt -p run", files={"tasks.txt": WORK.format(8, 1)})
    started(jobs, 2)
    with jobs.cluster.without_controller():
        until(lambda: (jobs.folder / "notes").read_text().count("end") == 8, 30, "all tasks to end")
    assert job.wait() == "COMPLETED", job.output
    check_once(jobs, 8)


def test_what_the_controller_does_not_answer_is_asked_again(jobs: Jobs) -> None:
    """Of sbatch and scontrol: the first time each finds no controller at its port."""
    conf = Path(jobs.cluster.env["SLURM_CONF"])
    nobody = re.sub(r"(?m)^SlurmctldPort=.*", "SlurmctldPort=1", conf.read_text())
    jobs.taskrun.write({"nobody.conf": f"{nobody}MessageTimeout=2\n", "tasks.txt": "true\n"})
    for name in ("sbatch", "scontrol"):
        program = jobs.folder / "programs" / name
        asked = jobs.folder / f"asked_{name}"
        program.write_text(f"""#!/bin/sh
            echo "$@" >> {asked}; [ "$(wc -l < {asked})" != 1 ] || export SLURM_CONF={jobs.folder}/nobody.conf
            exec {shutil.which(name)} "$@" """)
        program.chmod(0o755)
    done = jobs.run("taskrun", "submit", "tasks.txt", "-n", "1", "-o", "out")
    number = re.fullmatch(r"Submitted batch job (\d+)\n", done.stdout)
    assert number, done.stderr
    assert len((jobs.folder / "asked_sbatch").read_text().splitlines()) == 2
    job = Job(jobs.cluster, number[1], jobs.folder / "out")
    assert job.wait() == "COMPLETED", job.output
    assert (jobs.folder / "asked_scontrol").read_text().splitlines()[:2] == [f"show job -d -o {job.number}"] * 2
    assert "SLURM does not say" not in job.output


@pytest.fixture
def accounting() -> Iterator[SlurmCluster]:
    cluster = SlurmCluster(3, "1", accounting=True)
    yield cluster
    cluster.close()


@pytest.mark.timeout(120)
def test_idle_nodes_are_given_back_one_after_the_other(accounting: SlurmCluster, taskrun: Taskrun) -> None:
    """A job shrinks twice, the driver's node stays; STOP commands run when a node leaves; what --retire-cmd is told."""
    jobs = Jobs(accounting, taskrun)
    text = "#TASKRUN PERENGINE STOP hostname >> left\n" + "until test -e go_$(hostname); do sleep 0.2; done\n" * 3
    told = 'echo "$NODE $NODES $RETCODES A=$ACTIVE R=$RETIRED D=$DRIVER_NODE" >> told; '
    job = jobs.submit("-N3", "taskrun", "tasks.txt", "-p", "run", "--retire-cmd", told + SLURM_COMMAND, files={"tasks.txt": text})

    def nodes() -> str:
        return accounting.run("squeue", "-h", "-j", job.number, "-o", "%N").stdout.strip()

    until(lambda: sum(each["what"] == "joined" for each in jobs.events("engine")) == 3, 30, "three engines")
    (jobs.folder / "go_node2").touch()
    until(lambda: nodes() == "node[1,3]", 40, "node2 to be given back")
    assert (jobs.folder / "left").read_text() == "node2\n"
    (jobs.folder / "go_node3").touch()
    until(lambda: nodes() == "node1", 40, "node3 to be given back")
    (jobs.folder / "go_node1").touch()
    assert job.wait() == "COMPLETED", job.output
    assert re.findall("given back: (.*)", jobs.log()) == ["node2; at work: node1,node3", "node3; at work: node1"]
    for what in ("node2; at work: node1,node3", "node3; at work: node1"):
        assert f"taskrun: given back: {what}\n" in job.output
    assert not list(jobs.folder.glob("slurm_job_*"))
    assert (jobs.folder / "told").read_text() == ("node2 node2 0 A=node1,node3 R=node2 D=\nnode3 node3 0 A=node1 R=node2,node3 D=\n")
    assert sorted((each["Flags"][3], each["Node"]) for each in jobs.records()) == [
        (kind, f"node{k}") for kind in (" ", "P") for k in (1, 2, 3)
    ]
