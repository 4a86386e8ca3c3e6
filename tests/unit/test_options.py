"""The option table: options that mean nothing without another one are refused, with the words that would do."""

from __future__ import annotations

import pytest

from taskrun.errors import Refused
from taskrun.options import BY_NAME, OPTIONS, parse

NEEDING = [
    (("-R",), "write -r STATUS -R"),
    (("--match", "command"), "write -r STATUS --match command"),
    (("--append",), "write -r STATUS --append"),
    (("--as-is",), "write -r STATUS --as-is"),
    (("--force-resume",), "write -r STATUS --force-resume"),
    (("--trust-records",), "write -r STATUS --trust-records"),
    (("--restarts", "3"), "write --requeue --restarts 3"),
]


@pytest.mark.parametrize(("words", "advice"), NEEDING)
def test_an_option_that_means_nothing_without_another(words: tuple[str, ...], advice: str) -> None:
    with pytest.raises(Refused, match=f"^{words[0]} means nothing without .*: {advice}$"):
        parse(["tasks.txt", *words], {})
    parse(["tasks.txt", *words, *advice.removeprefix("write ").split()[: 2 if "-r" in advice.split() else 1]], {})


def test_all_of_them_are_known_here_and_what_they_need_is_an_option() -> None:
    needing = {option.flags[0] for option in OPTIONS if option.needs}
    assert needing == {words[0] for words, _ in NEEDING}
    assert all(option.needs[0] in BY_NAME for option in OPTIONS if option.needs)


def test_a_wish_of_the_environment_is_none_of_a_command_line() -> None:
    parse(["tasks.txt"], {"TASKRUN_OPT_RETRY": "1", "TASKRUN_OPT_MATCH": "command", "TASKRUN_OPT_RESTARTS": "3"})
    parse(["tasks.txt", "-R"], {"TASKRUN_OPT_RESUME_FROM": "run_status.txt"})
    parse(["tasks.txt", "--restarts", "3"], {"TASKRUN_OPT_REQUEUE": "1"})


def test_a_job_that_slurm_starts_again_carries_on_without_naming_what() -> None:
    job = {"SLURM_JOB_ID": "17"}
    parse(["tasks.txt", "--force-resume", "--trust-records"], job)
    with pytest.raises(Refused, match="-R means nothing without -r"):
        parse(["tasks.txt", "-R"], job)
