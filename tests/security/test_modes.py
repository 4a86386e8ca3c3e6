"""Modes of a run's files: as --file-mode says, less what the umask takes."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Result, Taskrun
from strangers import Stranger

from taskrun.errors import Refused
from taskrun.options import parse
from taskrun.status import opening
from taskrun.status.carried import CarriedFile
from taskrun.status.durable import replace_whole
from taskrun.status.rescue import save

#: A run with a copy of its stream, lists of files, a manifest; it goes on until the door is open, so that these files are seen, too.
STREAM = """\
#TASKRUN STAGE-OUT out.txt sent/
#TASKRUN FOREACH *.in echo {}
until [ -e run_attach.json ]; do sleep 0.05; done; stat -c '%a %n' run_attach.json run_dbUtil.sh > seen; echo x > out.txt
"""
WRITTEN = {"status.txt", "run.json", "events.jsonl", "driver.log", "tasks.txt", "files.txt", "manifest.json"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run(taskrun: Taskrun, umask: str, *words: str, stdin: bytes = b"") -> Result:
    """A run with a umask of its own."""
    command = shlex.join([sys.executable, "-m", "taskrun", *words])
    shell = Taskrun(taskrun.folder, taskrun.env, command=("/bin/bash", "-c"))
    try:
        return shell(f"umask {umask}; exec {command}", stdin=stdin)
    finally:
        shell.close()


def modes(taskrun: Taskrun, prefix: str = "run") -> dict[str, int]:
    return {path.name.removeprefix(f"{prefix}_"): mode(path) for path in taskrun.folder.glob(f"{prefix}_*")}


@pytest.mark.parametrize(("umask", "wanted"), [("022", 0o640), ("027", 0o640), ("077", 0o600), ("002", 0o640)])
def test_files_of_a_run_are_for_the_owner_and_the_group(taskrun: Taskrun, umask: str, wanted: int) -> None:
    taskrun.write({"a.in": ""})
    result = run(taskrun, umask, "-", "-s", "localhost:2", "-p", "run", stdin=STREAM.encode())
    assert result.code == 0, result.err
    found = modes(taskrun)
    assert set(found) >= WRITTEN
    assert set(found.values()) == {wanted}, {name: oct(each) for name, each in found.items()}
    assert (taskrun.folder / "seen").read_text() == "600 run_attach.json\n700 run_dbUtil.sh\n"


def test_the_mode_can_be_given_and_is_inherited(taskrun: Taskrun) -> None:
    taskrun.write({"a.in": ""})
    result = run(taskrun, "022", "-", "-s", "localhost:2", "-p", "run", "--file-mode", "0644", stdin=STREAM.encode())
    assert result.code == 0, result.err
    assert set(modes(taskrun).values()) == {0o644}
    assert (taskrun.folder / "seen").read_text() == "600 run_attach.json\n700 run_dbUtil.sh\n"
    taskrun.write({"tasks.txt": "[ -e yes ]\n"})
    for flags, wanted in ((("-p", "one", "--file-mode", "600"), 0o600), (("-p", "two", "-r", "one_status.txt", "-R"), 0o600)):
        words = flags if "-r" in flags else ("tasks.txt", *flags)
        assert run(taskrun, "022", *words).code == 0
        assert set(modes(taskrun, flags[1]).values()) == {wanted}


def test_another_user_cannot_read_the_commands(taskrun: Taskrun, stranger: Stranger) -> None:
    assert taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "true secret\n"}).code == 0
    stranger.open(taskrun.folder)
    code = "import os, sys\nprint([name for name in os.listdir(sys.argv[1]) if name.startswith('run_') and os.access(name, os.R_OK)])"
    assert stranger.python(f"import os, sys; os.chdir(sys.argv[1])\n{code}", str(taskrun.folder)) == "[]\n"


@pytest.mark.parametrize("given", ["0666", "0444", "04640", "0750", "0660", "6400", "x", "", "0o640x"])
def test_other_modes_are_refused(given: str) -> None:
    with pytest.raises(Refused, match="--file-mode"):
        parse(["tasks.txt", "--file-mode", given], {})
    with pytest.raises(Refused, match="--file-mode"):
        parse(["tasks.txt"], {"TASKRUN_OPT_FILE_MODE": given})


@pytest.mark.parametrize(("given", "kept"), [("600", "0600"), ("0640", "0640"), ("0644", "0644"), ("0o604", "0604")])
def test_modes_that_can_be_given(given: str, kept: str) -> None:
    _, options = parse(["tasks.txt", "--file-mode", given], {})
    assert options.file_mode == kept
    again = parse(["-r", "x"], {})[1]
    again.inherit({"file_mode": options.given()["file_mode"]})
    assert again.file_mode == kept
    again.origins.clear()
    with pytest.raises(Refused):
        again.inherit({"file_mode": {"value": "0666"}})


@pytest.fixture
def open_mask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)
    opening.set_mode(opening.DEFAULT_MODE)


@pytest.mark.usefixtures("open_mask")
def test_the_mode_of_every_way_to_make_a_file(tmp_path: Path) -> None:
    for wanted in (0o640, 0o644, 0o600):
        opening.set_mode(wanted)
        folder = tmp_path / oct(wanted)
        folder.mkdir()
        os.close(opening.new(folder / "new"))
        os.close(opening.own(folder / "own"))
        for _ in range(2):
            replace_whole(folder / "whole", b"x")
        save(b"line\n", folder / "x")
        carried = CarriedFile(folder / "carried")
        carried.publish()
        assert {path.name for path in folder.iterdir()} == {"new", "own", "whole", "x.unwritten", "carried"}
        assert {mode(path) for path in folder.iterdir()} == {wanted}
        replace_whole(folder / "secret", b"x", 0o600)
        replace_whole(folder / "whole", b"x", 0o600)
        assert mode(folder / "secret") == mode(folder / "whole") == 0o600
        replace_whole(folder / "whole", b"x")
        assert mode(folder / "whole") == 0o600, "what others were kept from reading stays so"


@pytest.mark.usefixtures("open_mask")
def test_a_replaced_file_has_not_the_mode_of_what_somebody_else_has_put_there(tmp_path: Path, stranger: Stranger) -> None:
    (tmp_path / "open").touch()
    (tmp_path / "open").chmod(0o666)
    (tmp_path / "link").symlink_to("open")
    os.link(tmp_path / "open", tmp_path / "hard")
    stranger.open(tmp_path)
    stranger.python("import os, sys; os.close(os.open(sys.argv[1], os.O_CREAT)); os.chmod(sys.argv[1], 0o666)", str(tmp_path / "theirs"))
    for name in ("link", "hard", "theirs"):
        replace_whole(tmp_path / name, b"x")
        assert mode(tmp_path / name) == 0o640
    assert (tmp_path / "open").read_bytes() == b""


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that shows another owner of all our files, where users are mapped or a mount gives all files one owner."""
    other = os.geteuid() + 4242
    monkeypatch.setattr(os, "geteuid", lambda: other)


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("named", [False, True])
def test_files_of_ours_that_are_shown_as_anothers_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, named: bool) -> None:
    if named:
        monkeypatch.setattr(opening, "unnamed", lambda _: os.open(tmp_path / "no" / "such", os.O_RDWR))
    path = tmp_path / "run_status.txt"
    os.close(opening.new(path))
    os.close(opening.own(path))
    path.chmod(0o600)
    replace_whole(path, b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["run_status.txt"]


@pytest.mark.usefixtures("odd")
def test_files_of_others_are_refused_there_too(tmp_path: Path, stranger: Stranger) -> None:
    path = tmp_path / "run_status.txt"
    os.close(opening.new(path))
    os.chown(path, stranger.uid, -1)
    with pytest.raises(PermissionError, match="it belongs to nobody"):
        opening.own(path)
