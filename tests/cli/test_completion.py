"""Completion of the command line: made from the option table, understood by the shells, and the files in completions/ are up to date."""

from __future__ import annotations

import subprocess

import pytest
from harness import ROOT, Taskrun, need

from taskrun.options import OPTIONS

FILES = {"bash": "taskrun.bash", "zsh": "_taskrun", "fish": "taskrun.fish"}


@pytest.mark.parametrize("shell", FILES)
def test_the_files_are_what_the_command_prints(taskrun: Taskrun, shell: str) -> None:
    result = taskrun("completion", shell)
    assert result.code == 0
    again = f"again: python -m taskrun completion {shell} > completions/{FILES[shell]}"
    assert (ROOT / "completions" / FILES[shell]).read_text() == result.out, again


@pytest.mark.parametrize("shell", FILES)
def test_each_shell_takes_it(shell: str) -> None:
    need(shell)
    done = subprocess.run([shell, "-n", ROOT / "completions" / FILES[shell]], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def completed(*words: str) -> list[str]:
    """What bash offers for the last of these words."""
    script = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _taskrun; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", ROOT / "completions" / "taskrun.bash", "taskrun", *words], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_bash_offers_options_their_values_and_commands() -> None:
    offered = completed("tasks.txt", "--")
    for option in OPTIONS:
        assert all((flag in offered) == (option.later is None) for flag in option.flags if flag.startswith("--"))
    assert completed("tasks.txt", "--starter", "") == ["auto", "parallel", "builtin"]
    assert "check" in completed("ch")


def test_other_shells_are_refused(taskrun: Taskrun) -> None:
    result = taskrun("completion", "tcsh")
    assert (result.code, result.err) == (2, "taskrun: taskrun completion needs the name of a shell: bash, zsh or fish\n")
