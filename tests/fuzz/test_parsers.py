"""Task files, status files, sidecars, lock files and links: any bytes are read or refused, never a traceback, never a hang."""

from __future__ import annotations

from typing import Any

import pytest
from fuzz import generated, targets
from fuzz.budget import costly, fuzz
from hypothesis import example, given
from hypothesis import strategies as st

pytestmark = pytest.mark.timeout(0)  # with `make fuzz` they go on for long

sizes = st.sampled_from([1, 2, 3, 7, 100, 10_000])


@fuzz
@given(generated.task_files, sizes, st.booleans())
def test_task_files(text: bytes, size: int, ignore_unknown: bool) -> None:
    targets.task_file(text, size, ignore_unknown)


@fuzz
@given(generated.status_files)
def test_status_files(data: bytes) -> None:
    targets.status_file(data)


@fuzz
@given(generated.sidecars)
def test_sidecars(data: bytes) -> None:
    targets.sidecar_file(data)


@fuzz
@given(generated.attach_files)
def test_attach_files(data: bytes) -> None:
    targets.attach_file(data)


@fuzz
@given(generated.events_files)
def test_events_as_they_are_shown(data: bytes) -> None:
    targets.events_file(data)


@costly
@given(generated.pictures)
def test_pictures_of_a_run(value: dict[str, Any]) -> None:
    targets.picture(value)


@fuzz
@given(generated.file_lists)
def test_files_of_foreach(data: bytes) -> None:
    targets.file_list(data)


@costly
@given(generated.displaced(generated.SIDECAR), st.booleans())
def test_a_resume_with_one_odd_value(tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any], dry_run: bool) -> None:
    folder = tmp_path_factory.mktemp("resume")
    for name in ("cwd", "task_file"):  # else nearly all would end where the task file is looked for
        if value.get(name) == generated.SIDECAR[name]:
            value[name] = str(folder) if name == "cwd" else {"path": f"{folder}/tasks.txt", "sha256": "0", "size": 5}
    targets.resumed(folder, value, dry_run)


@fuzz
@given(generated.locks)
@example(b'{"run_id": "", "host": "", "boot_id": "", "pid": 1, "start_time": 1, "since": 1e999}')
def test_lock_files(data: bytes) -> None:
    targets.lock_file(data)


@fuzz
@given(generated.streams, sizes)
def test_frames(data: bytes, size: int) -> None:
    targets.link_bytes(data, size)


@fuzz
@given(generated.streams, sizes)
def test_links(data: bytes, size: int) -> None:
    targets.whole_link(data, size)
