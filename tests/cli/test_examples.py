"""Each file in examples/ runs to its end, as its comment says, and gives what it promises."""

from __future__ import annotations

import shutil

import pytest
from harness import ROOT, Result, Taskrun

EXAMPLES = {path.name: path for path in sorted((ROOT / "examples").glob("*.txt"))}


def run(name: str, taskrun: Taskrun) -> Result:
    shutil.copy(EXAMPLES[name], taskrun.folder)
    result = taskrun(name, "-s", "localhost:2", "-p", "run")
    assert result.code == 0, result.err
    assert result.out == ""
    failed = [record for record in result.records() if record["ReturnCode"] != 0]
    assert not failed
    printed = [record for record in result.records() if record["BytesOfLeakedOutput"] or record["BytesOfLeakedError"]]
    assert not printed
    return result


def test_every_example_has_a_test() -> None:
    assert set(EXAMPLES) == {"sweep.txt", "pipeline.txt", "scratch.txt", "data.txt"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_command_in_its_comment_is_the_one_that_is_tested(name: str) -> None:
    assert f"#     taskrun {name} -s localhost:2\n" in EXAMPLES[name].read_text("utf-8")


def test_sweep(taskrun: Taskrun) -> None:
    result = run("sweep.txt", taskrun)
    assert len(result.records()) == 16 + 1 + 1
    logs = {path.name for path in (taskrun.folder / "sweep").glob("angle_*.log")}
    assert logs == {f"angle_{angle}.log" for angle in range(5, 81, 5)}
    assert (taskrun.folder / "sweep" / "best.txt").read_text().startswith("40 degrees ")  # without air it were 45


def test_pipeline(taskrun: Taskrun) -> None:
    result = run("pipeline.txt", taskrun)
    assert [record["Flags"][0] for record in result.records()].count("C") == 3
    header, *stations = (taskrun.folder / "pipeline" / "report.txt").read_text().splitlines()
    assert header == "station mean lowest highest"
    assert [line.split()[0] for line in stations] == list("123456")
    assert all(11 < float(line.split()[1]) < 13 for line in stations)


def test_data(taskrun: Taskrun) -> None:
    result = run("data.txt", taskrun)
    delivered = taskrun.folder / "delivered"
    assert {path.name for path in (delivered / "words").iterdir()} == {f"{letter}.txt" for letter in "abcdefghijklmnopqrstuvwxyz"}
    assert (delivered / "words/d.txt").read_text().split()[:2] == ["9", "delivered"]
    assert len(list((delivered / "sums").iterdir())) == 26
    assert len(result.events("transfer")) == 1 + 26 + 26


def test_scratch(taskrun: Taskrun) -> None:
    result = run("scratch.txt", taskrun)
    assert [record["Flags"] for record in result.records()].count("   P") == 3
    divisors = dict(line.split() for line in (taskrun.folder / "scratch" / "divisors.txt").read_text().splitlines())
    assert len(divisors) == 32
    assert (divisors["3"], divisors["5"], divisors["16"], divisors["32"]) == ("3", "3", "-", "641")
    assert sorted(path.name for path in (taskrun.folder / "scratch").iterdir()) == ["divisors.txt", "results"]
