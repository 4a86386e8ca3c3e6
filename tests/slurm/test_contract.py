"""What holds for an engine however it is reached, in a step of a SLURM job."""

from __future__ import annotations

from ssh.test_contract import (
    test_barriers,
    test_bytes_that_are_not_utf8,
    test_environment,
    test_long_lines,
    test_many_short_tasks,
    test_output,
    test_per_engine,
    test_results,
    test_signals,
    test_standard_input_is_empty,
    test_the_built_in_starter,
    test_the_driver_is_killed,
    test_what_a_task_starts_is_ended_with_it,
    test_what_starts_slots,
)

__all__ = [
    "test_barriers",
    "test_bytes_that_are_not_utf8",
    "test_environment",
    "test_long_lines",
    "test_many_short_tasks",
    "test_output",
    "test_per_engine",
    "test_results",
    "test_signals",
    "test_standard_input_is_empty",
    "test_the_built_in_starter",
    "test_the_driver_is_killed",
    "test_what_a_task_starts_is_ended_with_it",
    "test_what_starts_slots",
]
