"""The wheel is built, installed in a fresh environment and run there: what a user gets from `pip install taskrun-batch`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from harness import ROOT, Taskrun

import taskrun as package


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_the_package_and_the_grammar(wheel: Path) -> None:
    assert wheel.name == f"taskrun_batch-{package.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert archive.read("taskrun/language/taskfile.lark") == (ROOT / "grammar" / "taskfile.lark").read_bytes()
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "taskrun").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert not {name for name in names if not name.startswith("taskrun/")}


def test_it_runs_where_nothing_else_of_ours_is(wheel: Path, taskrun: Taskrun, tmp_path_factory: pytest.TempPathFactory) -> None:
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    install = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True)
    # the libraries it needs are taken from here: a path that is added so does not bring this checkout's editable install along
    (site,) = venv.glob("lib/python3*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    shutil.copy(ROOT / "examples" / "pipeline.txt", taskrun.folder)
    installed = Taskrun(taskrun.folder, taskrun.env, command=(str(venv / "bin" / "taskrun"),))
    result = installed("pipeline.txt", "-s", "localhost:2", "-p", "run")
    installed.close()
    assert result.code == 0, result.err
    assert {record["ReturnCode"] for record in result.records()} == {0}

    where = [str(venv / "bin" / "python"), "-c", "import taskrun; print(taskrun.__file__)"]
    assert Path(subprocess.run(where, check=True, capture_output=True, text=True, cwd=taskrun.folder).stdout).is_relative_to(venv)
