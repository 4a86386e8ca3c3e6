"""Nothing of the driver's side opens a file for writing but by status/opening.py: no link is followed, and the mode is the run's."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import ROOT

from taskrun.status import opening

PACKAGE = ROOT / "taskrun"

#: (file, call) that may, each with its reason.
ALLOWED = {
    ("status/opening.py", "os.open"),  # the one place
    ("status/lock.py", "os.open"),  # a protocol of its own: O_EXCL, O_NOFOLLOW, links that are compared
    ("status/lock.py", "os.link"),
    ("status/lock.py", ".replace"),
    ("status/durable.py", ".replace"),  # of a temporary file that `opening` has made
    ("status/carried.py", "os.link"),
    ("driver/foreach.py", ".replace"),
    ("status/rescue.py", "tempfile.mkstemp"),  # a new name in the folder for temporary files, 0600
    ("driver/look.py", "tempfile.NamedTemporaryFile"),  # a new name, 0600: what hosts are to find in the working directory
    ("driver/claim.py", ".touch"),  # of a lock
    ("driver/drive.py", ".touch"),  # of the same
    ("driver/porter.py", ".replace"),  # of an engine
    ("driver/member.py", "os.open"),  # /dev/null
    ("cli/main.py", "os.open"),  # /dev/null
    ("cli/front.py", "os.open"),  # the same
    ("cli/streams.py", "open"),  # descriptors 1 and 2
    ("cli/streams.py", "os.open"),  # /dev/null
    ("cli/check.py", "shutil.copyfileobj"),  # to a file in memory or without a name
    ("observers/terminal.py", "os.open"),  # the terminal that is ours already
    ("staging/local.py", "os.open"),  # destinations: O_EXCL, O_NOFOLLOW, relative to their folder's descriptor
    ("staging/local.py", "os.replace"),
    ("staging/local.py", "os.link"),  # of a file that is put aside before it is removed, or gets its name back; nothing is replaced
    ("staging/local.py", ".rename"),
    ("staging/sftp.py", ".rename"),  # the same on another host
    ("driver/removal.py", ".rename"),  # of a store
    ("driver/leftovers.py", ".rename"),
    ("staging/sftp.py", ".open"),  # of another host
    ("staging/rclone.py", ".symlink_to"),  # in a new folder of our own
    ("engines/ssh_known_hosts.py", ".open"),  # the user's ~/.ssh/known_hosts, which may be a link of theirs, as for ssh
}
WRITING = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND", "O_TRUNC", "O_TMPFILE"}
TEMPORARY = {"mkstemp", "NamedTemporaryFile", "mktemp", "SpooledTemporaryFile"}  # TemporaryFile has no name, mkdtemp is 0700
METHODS = {"write_text", "write_bytes", "touch", "symlink_to", "hardlink_to", "rename"}
MOVES = {"replace", "rename", "renames", "link", "symlink", "truncate", "mkfifo", "mknod"}


def calls() -> Iterator[tuple[str, str, int]]:
    """(file, what is called, line) of every call that may make, change or replace a file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE).as_posix()
        if file.startswith("agent/"):  # on hosts, in its private folder
            continue
        for node in ast.walk(ast.parse(path.read_bytes(), file)):
            if isinstance(node, ast.Call) and (found := _what(node)):
                yield file, found, node.lineno


def _what(node: ast.Call) -> str:
    function = node.func
    name = function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    owner = function.value.id if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) else ""
    whole = name if isinstance(function, ast.Name) else f"{owner if owner in ('os', 'tempfile', 'shutil', 'io') else ''}.{name}"
    flags = {each.attr for argument in node.args for each in ast.walk(argument) if isinstance(each, ast.Attribute)}
    if whole == "os.open":
        return whole if flags & WRITING or not all(_is_reading(argument) for argument in node.args[1:2]) else ""
    if name == "open" and owner != "os":
        return whole if any(_is_writing(argument) for argument in [*node.args, *(keyword.value for keyword in node.keywords)]) else ""
    if owner == "shutil":
        return whole if name.startswith(("copy", "move")) else ""
    if name in TEMPORARY or (owner == "os" and name in MOVES) or (owner not in ("os", "re") and name in METHODS):
        return whole
    if name == "replace" and owner != "os" and len(node.args) == 1 and not node.keywords:  # a path's; that of a text has two
        return whole
    return ""


def _is_reading(flags: ast.expr) -> bool:
    return any(isinstance(each, ast.Attribute) and each.attr in ("O_RDONLY", "O_DIRECTORY") for each in ast.walk(flags)) or (
        isinstance(flags, ast.Name) and flags.id == "_INTO"
    )


def _is_writing(argument: ast.expr) -> bool:
    """Return whether the mode is one for writing."""
    value = argument.value if isinstance(argument, ast.Constant) else None
    return isinstance(value, str) and bool(re.fullmatch("[rbt]*[wax+][wax+rbt]*", value))


def test_files_are_opened_for_writing_in_one_place() -> None:
    wrong = [f"taskrun/{file}:{line} calls {what}" for file, what, line in calls() if (file, what) not in ALLOWED]
    assert not wrong, "see status/opening.py"


def test_no_exception_is_left_over() -> None:
    found = {(file, what) for file, what, _ in calls()}
    assert not ALLOWED - found


def test_a_file_of_ours_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for text in (b"one", b"two"):
        fd = opening.own(path)
        os.write(fd, text)
        os.close(fd)
    assert path.read_bytes() == b"onetwo"
    with pytest.raises(FileExistsError):
        opening.new(path)
    with pytest.raises(FileNotFoundError):
        opening.own(tmp_path / "none", make=False)
    assert not (tmp_path / "none").exists()
    assert opening.taken_by(tmp_path / "none") == ""
    assert opening.taken_by(path) == "is there already, of an earlier run"


@pytest.mark.parametrize("kind", ["link", "dangling", "hard", "fifo", "socket", "folder", "device"])
def test_what_is_no_file_of_ours_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "path"
    (tmp_path / "file").write_text("mine")
    if kind in ("link", "dangling"):
        path.symlink_to("file" if kind == "link" else "none")
    elif kind == "hard":
        os.link(tmp_path / "file", path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/null")
    said = {"link": "symbolic link", "dangling": "symbolic link", "hard": "2 names", "folder": "directory"}.get(kind, "not a regular file")
    with pytest.raises(OSError, match=said):
        opening.own(path)
    if kind != "folder":
        assert opening.taken_by(path)
    if kind not in ("link", "dangling", "folder"):
        with pytest.raises(OSError, match=said):
            opening.to_read(path)
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "none").exists()
    if kind == "device":
        os.close(opening.own(path, device=True))
