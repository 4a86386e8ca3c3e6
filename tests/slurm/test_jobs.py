"""taskrun in jobs of SLURM as people type them: what it makes of an allocation, and what its tasks see there."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
from harness import ROOT
from slurm.jobs import Job, Jobs, check_once

EXAMPLES = ROOT / "examples" / "slurm"
#: A slot that has nothing to do takes the next task: with a pause each has its turn.
SEEN = (
    "#TASKRUN REPEAT {} echo $DISBATCH_ENGINE_RANK $DISBATCH_CYLINDER_RANK $DISBATCH_CORES_PER_TASK $SLURM_CPUS_PER_TASK "
    "${{CUDA_VISIBLE_DEVICES:-none}} ${{SLURM_STEP_GPUS:-none}} >> seen; sleep 0.4\n"
)


def seen(folder: Path, name: str = "seen") -> list[tuple[str, ...]]:
    """(engine, slot, cores, SLURM_CPUS_PER_TASK, GPUs, GPUs of the step), each once."""
    return sorted({tuple(line.split()) for line in (folder / name).read_text().splitlines()})


def test_the_program_itself_is_a_job_script(jobs: Jobs) -> None:
    text = SEEN.format(12) + "exit 3\n"
    job = jobs.submit("-n", "6", "--ntasks-per-node", "2", "taskrun", "tasks.txt", "-p", "run", files={"tasks.txt": text})
    assert job.wait() == "COMPLETED", job.output
    assert re.search(r"Comment=taskrun 12 done, 1 failed of 13 *\n", jobs.run("scontrol", "show", "job", job.number).stdout)
    records = jobs.records()
    assert Counter(each["Node"] for each in records).keys() == {"node1", "node2", "node3"}
    assert sorted(each["ReturnCode"] for each in records) == [0] * 12 + [3]
    assert [each[:4] for each in seen(jobs.folder)] == [(str(rank), str(slot), "1", "1") for rank in range(3) for slot in range(2)]
    assert re.search(r"12 tasks done, 1 failed", job.output)
    assert jobs.nothing_runs()
    assert not list(jobs.folder.glob("run_node*.log")), "srun had nothing to say"


def test_salloc_with_the_driver_outside(jobs: Jobs) -> None:
    jobs.taskrun.write({"tasks.txt": "hostname\n#TASKRUN PERENGINE STOP true\nexit 3\n".replace("#TASKRUN PERENGINE STOP true\n", "")})
    done = jobs.run("salloc", "-Q", "-n", "6", "taskrun", "tasks.txt", "-p", "run", "-e")
    assert done.returncode == 1, done.stderr
    assert sorted(each["ReturnCode"] for each in jobs.records()) == [0, 3]
    assert jobs.records()[0]["Node"].startswith("node")


GPUS = {
    "-N1 --gpus-per-task=1 --ntasks-per-node=2": {("0", "0"), ("1", "1")},
    "-N1 --gres=gpu:2 --ntasks-per-node=2": {("0", "0"), ("1", "1")},
    "-N1 --exclusive --ntasks-per-node=2": {("0", "0"), ("1", "1")},
    "-N1 --ntasks-per-gpu=1 --gpus=2": {("0", "0"), ("1", "1")},
    "-N2 --gpus=3 --ntasks-per-node=1": {("0,1", "0,1"), ("0", "0")},
    "-N1 --gres=gpu:2 --ntasks-per-node=2 --gpu-bind=none": {("0,1", "0,1")},
}


def test_each_slot_has_its_gpus(jobs: Jobs) -> None:
    """In jobs that ask for them in every way there is."""
    submitted: dict[str, tuple[Job, Path]] = {}
    for number, options in enumerate(GPUS):
        folder = jobs.folder / str(number)
        folder.mkdir()
        (folder / "tasks.txt").write_text(SEEN.format(4))
        submitted[options] = jobs.submit(f"--chdir={folder}", *options.split(), "taskrun", "tasks.txt"), folder
    for options, (job, folder) in submitted.items():
        assert job.wait() == "COMPLETED", job.output
        assert {each[4:6] for each in seen(folder)} == GPUS[options], options


def test_slots_without_a_gpu_are_set_aside(jobs: Jobs) -> None:
    job = jobs.submit("-N1", "--gres=gpu:2", "taskrun", "tasks.txt", "-g", "-t", "3", "-p", "run", files={"tasks.txt": SEEN.format(6)})
    assert job.wait() == "COMPLETED", job.output
    assert {each[4:6] for each in seen(jobs.folder)} == {("0", "0"), ("1", "1")}
    assert "taskrun: node1: -g: there are 2 GPUs for 3 slots: 2 slots are used\n" in job.output


def test_cores_of_slots(jobs: Jobs) -> None:
    text = "#TASKRUN REPEAT 6 python3 -c 'import os; print(*os.sched_getaffinity(0))' >> cores_$TASKRUN_CYLINDER_RANK; sleep 0.3\n"
    text += "nproc > threads  # as many as OpenMP would start\n"
    text = "#TASKRUN PERENGINE START python3 -c 'import os; print(len(os.sched_getaffinity(0)))' > all\n" + text
    jobs.taskrun.write(
        {"job": "#!/bin/bash\ntaskrun tasks.txt -p one\nmkdir free; cd free; SLURM_CPU_BIND=none taskrun ../tasks.txt -p two\n"}
    )
    job = jobs.submit("-N1", "--ntasks-per-node=2", "job", files={"tasks.txt": text})
    assert job.wait() == "COMPLETED", job.output
    cores = {name: set((jobs.folder / name).read_text().split("\n")) - {""} for name in ("cores_0", "cores_1")}
    assert all(len(each) == 1 and " " not in next(iter(each)) for each in cores.values()), cores
    assert cores["cores_0"] != cores["cores_1"]
    assert (jobs.folder / "all").read_text() == (jobs.folder / "free" / "all").read_text(), "a PERENGINE command is not one slot's"
    assert " " in (jobs.folder / "free" / "cores_0").read_text()
    assert (jobs.folder / "threads").read_text() == "1\n"
    assert (jobs.folder / "free" / "threads").read_text() == (jobs.folder / "all").read_text()


def test_options_for_srun(jobs: Jobs) -> None:
    """DISBATCH_SLURM_SRUN_OPTIONS_FILE; and what is wrong in it is refused."""
    jobs.taskrun.write({"good": "SLURM_CPU_BIND=none\nFOR_ME=x y\n", "bad": "FOR_ME\n"})
    script = "".join(f"DISBATCH_SLURM_SRUN_OPTIONS_FILE={name} taskrun tasks.txt -p {name}; echo $?\n" for name in ("good", "bad", "none"))
    jobs.taskrun.write({"job": "#!/bin/bash\n" + script})
    job = jobs.submit("-N1", "job", files={"tasks.txt": 'echo "$FOR_ME $SLURM_MPI_TYPE" > got\n'})
    job.wait()
    assert (jobs.folder / "got").read_text() == "x y \n"
    assert "taskrun: bad:1: `FOR_ME` is no NAME=VALUE" in job.output
    assert "taskrun: DISBATCH_SLURM_SRUN_OPTIONS_FILE: none: No such file or directory\n2\n" in job.output


def test_elements_of_a_variable(jobs: Jobs) -> None:
    """-E: fewer elements than slots set slots aside."""
    jobs.taskrun.env["RES"] = "a,b"
    text = "#TASKRUN PERENGINE START echo per $RES >> seen\n#TASKRUN REPEAT 6 echo $TASKRUN_CYLINDER_RANK $RES >> seen; sleep 0.3\n"
    job = jobs.submit("-N1", "--ntasks-per-node=2", "taskrun", "tasks.txt", "-t", "3", "-E", "RES", "-p", "run", files={"tasks.txt": text})
    assert job.wait() == "COMPLETED", job.output
    assert set((jobs.folder / "seen").read_text().splitlines()) == {"per a", "0 a", "1 b"}
    assert "taskrun: node1: -E RES has 2 for 3 slots: 2 slots are used\n" in job.output


def test_srun_within_a_task(jobs: Jobs) -> None:
    """Our steps leave the job's cores and memory to those of tasks."""
    text = "srun -N1 -n1 --mem=50 hostname > inner\n"
    job = jobs.submit("-N1", "-n2", "--mem=200", "taskrun", "tasks.txt", "-p", "run", files={"tasks.txt": text})
    assert job.wait() == "COMPLETED", job.output
    assert (jobs.folder / "inner").read_text() == "node1\n"
    assert [each["ReturnCode"] for each in jobs.records()] == [0]


def test_attached_nodes(jobs: Jobs) -> None:
    """A second job's nodes join the run of the first."""
    text = "#TASKRUN REPEAT 2 until test -e go; do sleep 0.1; done\n#TASKRUN REPEAT 8 sleep 0.2\n"
    first = jobs.submit("-N1", "-n1", "-w", "node1", "taskrun", "tasks.txt", "-p", "run", files={"tasks.txt": text})
    jobs.until((jobs.folder / "run_attach.json").exists, what="the door")
    second = jobs.submit("-N2", "--ntasks-per-node=1", "-w", "node[2-3]", "--wrap", "exec taskrun attach run")
    jobs.until(lambda: f"as context J{second.number}: 2 slots on node2, node3" in second.output, what="the second job's engines")
    jobs.until(lambda: len(jobs.events("engine")) >= 3, what="three engines")
    (jobs.folder / "go").touch()
    assert first.wait() == "COMPLETED", first.output
    assert second.wait() == "COMPLETED", second.output
    assert {each["Node"] for each in jobs.records()} == {"node1", "node2", "node3"}


def test_job_arrays(jobs: Jobs) -> None:
    """A file that all elements would run is refused; the commands that are named then run each task once, as they are typed."""
    jobs.taskrun.write(
        {
            "tasks.txt": "#TASKRUN REPEAT 3 until test -e go; do sleep 0.1; done\n#TASKRUN REPEAT 57 sleep 0.1\n",
            "part_1.txt": "echo 1 >> parts\n",
            "part_2.txt": "echo 2 >> parts\n",
            "nested.sh": "#!/bin/bash\nexec sbatch --parsable -W -o nested.out --wrap 'exec taskrun one.txt -p nested'\n",
            "one.txt": "true\n",
        }
    )
    parts = jobs.submit("--array=1-2", "--wrap", "exec taskrun part_$SLURM_ARRAY_TASK_ID.txt")
    (jobs.folder / "nested.sh").chmod(0o755)
    nested = jobs.submit("--array=1-2", "--wrap", "test $SLURM_ARRAY_TASK_ID = 2 || exec ./nested.sh")
    done = jobs.run("sbatch", "-W", "--array=1-2", "--output=refused_%a", "--wrap", "exec taskrun tasks.txt -p run_$SLURM_ARRAY_TASK_ID")
    assert done.returncode == 2, done.stderr
    said = [(jobs.folder / f"refused_{element}").read_text().splitlines() for element in (1, 2)]
    assert said[0] == said[1]
    driver, engines = (re.sub("^  sbatch ", "", line) for line in said[0] if line.startswith("  sbatch "))
    assert not list(jobs.folder.glob("run*"))
    first = jobs.submit(*shlex.split(driver))
    jobs.until((jobs.folder / "run_attach.json").exists, what="the run")
    second = jobs.submit(*shlex.split(engines))
    jobs.until(lambda: len(jobs.events("engine")) >= 3, what="three engines")
    (jobs.folder / "go").touch()
    for job in (first, second, parts, nested):
        assert job.wait() == "COMPLETED", job.output
    check_once(jobs, 60)
    assert len({attempt["engine"] for attempt in jobs.events("attempt")}) == 3
    assert sorted((jobs.folder / "parts").read_text().split()) == ["1", "2"]
    assert len(jobs.records("nested")) == 1, "a job that an element submits is no element"


def test_submit(jobs: Jobs) -> None:
    jobs.taskrun.write({"tasks.txt": "exit 3\n", "wrong.txt": "#TASKRUN BARIER\n"})
    shown = jobs.run("taskrun", "submit", "tasks.txt", "-n", "4", "--comment", "a b", "--dry-run", "--", "-e")
    assert not (jobs.folder / "tasks.txt.sbatch").exists()
    done = jobs.run("taskrun", "submit", "tasks.txt", "-n", "4", "--comment", "a b", "-o", "out", "--", "-e")
    number = re.fullmatch(r"Submitted batch job (\d+)\n", done.stdout)
    assert number, done.stderr
    without_sum = [line for line in shown.stdout.splitlines(keepends=True) if "sha256" not in line]
    written = [line for line in (jobs.folder / "tasks.txt.sbatch").read_text().splitlines(keepends=True) if "sha256" not in line]
    assert "".join(written) == "".join(without_sum).replace("'a b'\n", "'a b'\n#SBATCH -o out\n")
    job = Job(jobs.cluster, number[1], jobs.folder / "out")
    assert job.wait() == "FAILED"
    assert "1 failed" in job.output
    told = jobs.run("scontrol", "show", "job", number[1]).stdout
    assert re.search(r"Comment=a b *\n", told), "it is the person's own"
    assert "JobName=tasks.txt\n" in told
    assert "Requeue=1" in told
    for arguments, why in {
        ("tasks.txt", "-n", "4", "5"): "`5` is neither an option of sbatch",
        ("tasks.txt", "--", "-s", "localhost:1"): "leave -s out",
        ("tasks.txt", "--nosuch"): "tasks.txt.sbatch was not submitted: sbatch: unrecognized option '--nosuch'",
        ("wrong.txt",): "unknown directive",
        ("-n", "4"): "which task file?",
        (): "which task file?",
    }.items():
        refused = jobs.run("taskrun", "submit", *arguments)
        assert (refused.returncode, why in refused.stderr) == (2, True), refused.stderr
    jobs.taskrun.write({"-d\n%j.txt": "exit 3\n", "sub/x": ""})
    done = jobs.run("taskrun", "submit", "./-d\n%j.txt", "-n", "1", "-D", str(jobs.folder / "sub"), "-o", str(jobs.folder / "odd"))
    number = re.fullmatch(r"Submitted batch job (\d+)\n", done.stdout)
    assert number, done.stderr
    odd = Job(jobs.cluster, number[1], jobs.folder / "odd")
    assert (odd.wait(), "1 failed" in odd.output) == ("COMPLETED", True), odd.output


@pytest.mark.parametrize("where", ["login", "job"])
def test_outside_and_inside(jobs: Jobs, where: str) -> None:
    """On a login node both commands that would work are named; a run of a job is not carried on there by accident."""
    jobs.taskrun.write({"tasks.txt": "exit 1\n"})
    if where == "login":
        refused = jobs.run("taskrun", "tasks.txt")
        assert refused.returncode == 2
        assert re.search(r"-s localhost:\d+ to run here, or sbatch -n \d+ --wrap 'exec taskrun …'", refused.stderr)
        return
    assert jobs.submit("-n1", "taskrun", "tasks.txt", "-p", "run").wait() == "COMPLETED"
    refused = jobs.run("taskrun", "-r", "run_status.txt", "-R")
    assert refused.returncode == 2
    assert re.search(r"-s localhost:\d+ .*or sbatch", refused.stderr)
    assert jobs.submit("-n1", "-w", "node2", "taskrun", "-r", "run_status.txt", "-R", "-p", "two").wait() == "COMPLETED"
    assert [(each["Node"], each["ReturnCode"]) for each in jobs.records("two")] == [("node2", 1)]


@pytest.mark.timeout(120)
def test_the_examples(jobs: Jobs) -> None:
    """Each script of examples/slurm runs the tasks to their end; attach.sh brings nodes to the second. (low.sh: see test_faults.py)

    The first is warned by SLURM, and goes on, since its end is far. Then it is told to stop, is started again by itself, and goes on.
    """
    for path in EXAMPLES.iterdir():
        (jobs.folder / path.name).write_bytes(path.read_bytes())
    jobs.taskrun.env["LENGTH"] = "0.5"
    first = jobs.submit("--ntasks=2", "job.sh")
    jobs.until(lambda: len(list((jobs.folder / "primes").glob("*.txt"))) >= 2, what="tasks to end")
    jobs.run("scancel", "--batch", "--signal=USR1", first.number)
    jobs.until(lambda: "taskrun: SIGUSR1: this job ends at 20" in first.output, what="the end to be asked for")
    ended = len(list((jobs.folder / "primes").glob("*.txt")))
    jobs.until(lambda: len(list((jobs.folder / "primes").glob("*.txt"))) >= ended + 4, what="tasks that start after the warning")
    jobs.run("scancel", "--batch", "--signal=TERM", first.number)
    jobs.until(lambda: "SLURM is asked to start this job again (--requeue)\n" in first.output, what="the job to be started again")
    assert "taskrun: SIGTERM: what runs is given back, and runs again when the run is carried on; " in first.output
    assert "taskrun: stopped: SIGTERM\n" in first.output
    gpus = jobs.submit("--ntasks=2", "gpus.sh")
    prefix = f"primes.txt_{gpus.number}"
    jobs.until((jobs.folder / f"{prefix}_attach.json").exists, what="the door")
    attached = jobs.submit("attach.sh", prefix)
    assert gpus.wait() == "COMPLETED", gpus.output
    assert attached.wait() == "COMPLETED", attached.output
    assert "24 tasks done, none failed" in gpus.output
    assert first.wait() == "COMPLETED", first.output
    assert f"taskrun: SLURM has started this job again: it goes on with primes.txt_{first.number}_status.txt\n" in first.output
    for job in (first, gpus):
        check_once(jobs, 24, f"primes.txt_{job.number}")
    found = sum(int(path.read_text()) for path in (jobs.folder / "primes").glob("*.txt"))
    assert found == 2762 - 168  # primes below 25000 but not below 1000
    assert {path.name for path in EXAMPLES.iterdir()} == {"primes.txt", "job.sh", "low.sh", "gpus.sh", "attach.sh"}


def test_sick_nodes_are_set_aside_and_unfit_ones_not_used(jobs: Jobs) -> None:
    """The job goes on with the third node; the records of the sick one are the only failures."""
    text = (
        "#PERENGINE START CHECK test $SLURMD_NODENAME != node3\n"
        "#REPEAT 30 test $SLURMD_NODENAME != node2 || { echo 'no such library' >&2; exit 3; }; sleep 0.2\n"
    )
    job = jobs.submit("-N3", "--wrap", "exec taskrun tasks.txt -p run -e", files={"tasks.txt": text})
    assert job.wait() == "FAILED", job.output
    assert "node3: PERENGINE START CHECK in line 1 failed there (exit 1), and it is not used" in job.output
    assert "node2: its last" in job.output
    records = [each for each in jobs.records() if "P" not in each["Flags"]]
    assert len(records) == 30
    assert {each["Node"] for each in records if each["ReturnCode"]} == {"node2"}
    assert sum(each["ReturnCode"] != 0 for each in records) <= 8
