"""The private folder of an agent: made where nobody else can exchange it, removed without going anywhere else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from strangers import Stranger

from taskrun.agent import folder, main, probe
from taskrun.driver.admission import Admission
from taskrun.driver.briefing import Common
from taskrun.driver.member import Member
from taskrun.engines import frames, local
from taskrun.engines.request import EngineRequest

NAME = "taskrun-0123456789abcdef"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The victim's home: full, and for nobody else."""
    made = tmp_path / "home"
    (made / ".ssh").mkdir(parents=True)
    (made / ".ssh" / "authorized_keys").write_text("mine\n")
    made.chmod(0o700)
    return made


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder as /tmp is one: everybody makes files there, and removes only their own."""
    made = Path(tempfile.mkdtemp(prefix="s"))
    made.chmod(0o1777)
    yield made
    shutil.rmtree(made)


def whole(home: Path) -> bool:
    return (home / ".ssh" / "authorized_keys").read_text() == "mine\n"


def lay(stranger: Stranger, target: Path, at: Path) -> None:
    stranger.python("import os, sys; os.symlink(sys.argv[1], sys.argv[2])", str(target), str(at))


def test_a_link_in_the_place_of_an_old_folder_is_not_followed(
    stranger: Stranger, home: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger.open(shared)
    lay(stranger, home, shared / NAME)
    monkeypatch.setenv("TMPDIR", str(shared))
    main.sweep([str(shared / NAME), NAME])
    folder.remove(str(shared / NAME))
    local.remove_folder(NAME)
    assert whole(home)
    assert (shared / NAME).is_symlink()


def test_links_within_a_folder_are_removed_and_not_what_they_point_to(home: Path, shared: Path) -> None:
    place = shared / NAME
    (place / "a" / "b").mkdir(parents=True)
    place.chmod(0o700)
    for where in (place, place / "a", place / "a" / "b"):
        (where / "link").symlink_to(home)
        (where / "file").touch()
    main.sweep([str(place)])
    assert not place.exists()
    assert whole(home)


def test_a_folder_that_is_no_agents_is_left_alone(stranger: Stranger, shared: Path) -> None:
    """Somebody else's, and one that others may enter: an agent's is neither."""
    stranger.open(shared)
    stranger.python("import os, sys; os.mkdir(sys.argv[1], 0o700); open(sys.argv[1] + '/kept', 'w')", str(shared / NAME))
    (shared / f"{NAME}0").mkdir(mode=0o755)
    (shared / f"{NAME}0" / "kept").touch()
    for name in (NAME, f"{NAME}0"):
        main.sweep([str(shared / name)])
        folder.remove(str(shared / name))
        assert (shared / name / "kept").exists()


def test_a_folder_of_ours_that_another_user_has_renamed_is_not_taken_for_an_agents(
    stranger: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a directory without the sticky bit everybody who can write there can give our folders other names."""
    project = tmp_path / "project"
    project.mkdir()
    results = project / "results"
    results.mkdir(mode=0o700)
    (results / "kept").touch()
    stranger.open(project, 0o777)
    stranger.python("import os, sys; os.rename(sys.argv[1], sys.argv[2])", str(results), str(project / NAME))
    monkeypatch.chdir(project)
    monkeypatch.setenv("TMPDIR", str(project))
    main.sweep([str(project / NAME), NAME])
    local.remove_folder(NAME)
    assert (project / NAME / "kept").exists()
    assert not [place for place in probe.places(NAME) if Path(place).parent == project], "nor is one made there"


@pytest.mark.parametrize(("mode", "fit"), [(0o700, True), (0o755, True), (0o1777, True), (0o777, False), (0o775, False)])
def test_a_place_is_one_where_nobody_else_can_exchange_what_we_make(mode: int, fit: bool, shared: Path) -> None:
    shared.chmod(mode)
    below = shared / "below"
    below.mkdir(mode=0o700)
    assert probe.keeps(str(shared)) is fit
    assert probe.keeps(str(below)) is fit, "who can exchange the folder above can exchange this one"


def test_a_place_of_another_user_is_none(stranger: Stranger, shared: Path) -> None:
    stranger.open(shared)
    stranger.python("import os, sys; os.mkdir(sys.argv[1]); os.chmod(sys.argv[1], 0o1777)", str(shared / "theirs"))
    assert not probe.keeps(str(shared / "theirs"))


def admission(sent: list[dict[str, object]]) -> Admission:
    common = Common({"env": {}, "starter": "builtin", "share": {}}, {"env": {}, "workdir": ""})
    return Admission(common, {}, {}, lambda _, config: sent.append(config), lambda _: None, require_all=False)


def engine(rank: int) -> Member:
    return Member("context", EngineRequest("far", 1, 1, 1, "ssh", "far"), rank, Path("run"))


def hello(admission: Admission, member: Member) -> None:
    admission.hello(member, frames.Hello(main.wire.PROTOCOL, {"perl": 0, "parallel": ""}))


def test_an_agent_is_told_the_folders_that_others_have_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, object]] = []
    monkeypatch.setattr(os, "urandom", lambda _: b"\1" * 8)
    name = f"taskrun-{'01' * 8}"
    made = admission(sent)
    first, second = engine(0), engine(1)
    hello(made, first)
    made.ready(first, frames.Ready("builtin", False, 1.0, 1.0, 1, "/", f"/tmp/{name}"))
    hello(made, second)
    assert [config["sweep"] for config in sent] == [[], [f"/tmp/{name}"]]


@pytest.mark.parametrize("path", ["/home/you/.ssh", "/tmp/taskrun-ffffffffffffffff", "relative/x", "/tmp/\0", "/" * 5000, 7])
def test_an_agent_cannot_have_another_folder_swept(path: object) -> None:
    made = admission([])
    member = engine(0)
    hello(made, member)
    frame = {"k": "ready", "starter": "x", "slots": 1, "shared": False, "cwd": "/", "came": 1.0, "now": 1.0, "folder": path}
    with pytest.raises(main.wire.BadFrame):
        made.ready(member, frames.message_of(frame))  # type: ignore[arg-type]
