"""Giving nodes back: which, when, and what the command is told."""

from __future__ import annotations

from pathlib import Path

from harness import until

from taskrun.driver.retire import COLLECT_SECONDS, SLURM_COMMAND, Retirement

COMMAND = 'echo "$NODE $NODES $RETCODES A=$ACTIVE R=$RETIRED D=$DRIVER_NODE" >> said'


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def retirement(folder: Path, clock: Clock, command: str = COMMAND, driver: str = "") -> tuple[Retirement, list[tuple[str, str]]]:
    said: list[tuple[str, str]] = []
    environ = {"PATH": "/usr/bin:/bin", "PWD": str(folder)}
    made = Retirement(["a", "b", "c", "d"], driver, f"cd '{folder}' && {command}", environ, lambda *each: said.append(each))
    made.now = clock
    return made, said


def test_nodes_that_end_together_are_given_back_together(tmp_path: Path) -> None:
    clock = Clock()
    nodes, said = retirement(tmp_path, clock, driver="a")
    clock.seconds = 100.0
    nodes.ended("b", 0)
    clock.seconds = 105.0
    nodes.ended("c", 1)
    clock.seconds = 105.0 + COLLECT_SECONDS - 0.1
    nodes.step()
    assert not said, "another one may follow"
    clock.seconds = 105.0 + COLLECT_SECONDS
    nodes.step()
    until(lambda: said)
    assert said == [("notice", "given back: b,c; at work: a,d")]
    clock.seconds = 200.0
    nodes.ended("a", 0)
    clock.seconds = 300.0
    nodes.step()
    until(lambda: len(said) == 2)
    assert (tmp_path / "said").read_text() == "b b,c 0,1 A=a,d R=b,c D=\na a 0 A=d R=a,b,c D=a\n"
    clock.seconds = 400.0
    nodes.ended("d", 0)
    clock.seconds = 500.0
    nodes.step()
    assert len(said) == 2, "the last node: the job ends"


def test_one_that_is_lost_and_comes_back_is_kept(tmp_path: Path) -> None:
    clock = Clock()
    nodes, said = retirement(tmp_path, clock)
    clock.seconds = 100.0
    nodes.ended("b", 0)
    nodes.came_back("b")
    clock.seconds = 200.0
    nodes.step()
    nodes.came_back("elsewhere")
    assert (nodes.active, said) == (["a", "c", "d", "b"], [])


def test_a_command_that_fails_is_a_warning(tmp_path: Path) -> None:
    clock = Clock()
    nodes, said = retirement(tmp_path, clock, "echo no such job >&2; exit 3")
    clock.seconds = 0.0
    nodes.ended("b", 0)
    clock.seconds = 60.0
    nodes.step()
    until(lambda: said)
    assert said == [("warning", "b could not be given back: no such job")]


def test_nothing_of_a_command_that_hangs_stays(tmp_path: Path) -> None:
    clock = Clock()
    nodes, _ = retirement(tmp_path, clock, "sh -c 'echo $$ > pid; sleep 60; :'; :")
    nodes.ended("b", 0)
    clock.seconds = 60.0
    nodes.step()
    pid = tmp_path / "pid"
    until(lambda: pid.exists() and pid.read_text())
    nodes.close()
    until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists())


def test_without_a_command_nothing_is_given_back(tmp_path: Path) -> None:
    clock = Clock()
    said: list[tuple[str, str]] = []
    nodes = Retirement(["a", "b"], "", "", {}, lambda *each: said.append(each))
    nodes.now = clock
    clock.seconds = 0.0
    nodes.ended("b", 0)
    clock.seconds = 60.0
    nodes.step()
    assert not said


def test_slurms_command_keeps_the_drivers_node() -> None:
    assert SLURM_COMMAND == 'scontrol update JobId="$SLURM_JOBID" NodeList="${DRIVER_NODE:+$DRIVER_NODE,}$ACTIVE"'


def test_scripts_that_scontrol_leaves_are_removed(tmp_path: Path) -> None:
    """Only those of this job, and only what was not there before."""
    clock = Clock()
    names = [f"slurm_job_{job}_resize.{kind}" for job in (7, 71) for kind in ("sh", "csh")]
    (tmp_path / names[1]).write_text("mine")
    nodes, said = retirement(tmp_path, clock, f"touch {' '.join(names)}")
    nodes.folder = tmp_path
    nodes.environ = {**nodes.environ, "SLURM_JOBID": "7"}
    nodes.ended("b", 0)
    clock.seconds = 60.0
    nodes.step()
    until(lambda: said)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
