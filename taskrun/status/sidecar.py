"""The sidecar PREFIX_run.json: what was run and how, all that `taskrun -r STATUS` needs to know.

It is JSON in ASCII; paths and arguments that are not UTF-8 are kept as escaped surrogates (os.fsdecode and os.fsencode of them).
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from taskrun.errors import RecordsFailed, Refused
from taskrun.status import names, trust
from taskrun.status.durable import replace_whole
from taskrun.status.forms import wrong
from taskrun.visible import visible

#: Version of the file's form. A reader takes any version up to its own.
VERSION = 1
LONGEST = 16 << 20  # bytes of one: a thousand hosts take a few hundred thousand


#: Key: what unfinished files of a run, and of those it carries on, are called.
DATA_TAG = "data_tag"
#: Bytes of the digest of a group of lines.
DIGEST = 8


@dataclass
class Lines:
    """The lines of a task file that say something, as a resume compares them (see planning/edits.py)."""

    count: int
    group: int  # consecutive lines that have one digest
    digests: str  # hex, one after the other
    directives: str  # the digest of all directives, hex


@dataclass
class TaskFile:
    """The task file as it was read: `path` absolute, `sha256` in hex, `size` in bytes. `lines`: None when they are not known."""

    path: str
    sha256: str
    size: int
    lines: Lines | None = None


@dataclass
class Sidecar:
    """One run. Times are epoch seconds, the driver's clock. A run has a task file or came from a stream, never both."""

    run_id: str
    version: str  # of taskrun
    argv: list[str]
    cwd: str
    status: str  # name of the status file, in the sidecar's folder
    contexts: list[Any]  # as given
    options: dict[str, Any]  # name → {"value": …, "origin": …}
    host: str
    pid: int
    boot_id: str
    started: float
    task_file: TaskFile | None = None
    stream_complete: bool | None = None  # of a stream: whether its end was read; None for a task file
    ended: float | None = None
    exit_code: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    resumed_from: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)  # keys of the file that this version does not know

    @property
    def was_slurm(self) -> bool:
        """It ran on nodes of SLURM."""
        return any(each.get("kind") == "slurm" for each in self.contexts)

    def write(self, path: Path) -> None:
        """Replaces `path` by this, whole and durable. Raises RecordsFailed; then `path` is as it was."""
        values = asdict(self)
        text = json.dumps({"v": VERSION, **values.pop("extra"), **values}, ensure_ascii=True, indent=1, default=_plain)
        try:
            replace_whole(path, text.encode("ascii") + b"\n")
        except OSError as error:
            raise RecordsFailed(f"{path} cannot be written: {os.strerror(error.errno or 0)}") from error


def load(path: Path, *, obeyed: bool = True) -> Sidecar:
    """The sidecar in `path`. Unknown keys are kept in `extra`. `obeyed`: False where it is only shown, whoever wrote it.

    Raises Refused: unreadable, no sidecar, a key missing or with a value it cannot have, or too new; Untrusted.
    """
    try:
        with trust.opened(path, obeyed=obeyed) as file:
            text = file.read(LONGEST + 1)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from error
    if len(text) > LONGEST:
        raise Refused(f"{path} is not the sidecar of a run: it has more than {LONGEST >> 20} MiB")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise Refused(f"{path} is not the sidecar of a run: it holds no JSON object")
    version = values.pop("v", None)
    if not isinstance(version, int) or isinstance(version, bool):
        raise Refused(f"{path} is not the sidecar of a run: the key 'v' is missing")
    if version > VERSION:
        raise Refused(f"{path} was written by a newer taskrun (form {version}, this one reads up to {VERSION}): resume with that one")
    needed = [each.name for each in fields(Sidecar) if each.default is MISSING and each.default_factory is MISSING]
    if values.get("stream_complete") is None:
        needed += ["task_file"] if values.get("task_file") is None else []
    for name in needed:
        if values.get(name) is None:
            raise Refused(f"{path} is not the whole sidecar of a run: the key '{name}' is missing")
    found = wrong(values, _FORMS)
    if found:
        raise Refused(f"{path} is not the sidecar of a run: the key '{visible(found[:100])}' has a value it cannot have")
    keys = [each.name for each in fields(Sidecar) if each.name != "extra"]
    known = {name: value for name in keys if (value := values.pop(name, None)) is not None}
    if known.get("task_file") is not None:
        known["task_file"] = _task_file(path, known["task_file"])
    return Sidecar(**known, extra=values)


def _task_file(path: Path, values: dict[str, Any]) -> TaskFile:
    """Raises Refused when there are not as many digests as there are groups of lines."""
    lines = None
    if values.get("lines") is not None:
        lines = Lines(*(values["lines"][part.name] for part in fields(Lines)))
        if len(lines.digests) != -(-lines.count // lines.group) * 2 * DIGEST:
            raise Refused(f"{path} is not the sidecar of a run: the key 'task_file.lines' has a value it cannot have")
    return TaskFile(values["path"], values["sha256"], values["size"], lines)


def find(status: Path) -> Path:
    """The sidecar of a status file: the same name with `_run.json`, else the one in its folder that names it. Raises Refused.

    Of those that only name it, one that somebody else may have written is passed over.
    """
    try:
        for path in dict.fromkeys((status, Path(os.path.realpath(status)))):  # a link to a status file: the sidecar is where it points
            found = _find_beside(path)
            if found is not None:
                return found
    except OSError as error:
        raise Refused(f"the sidecar of {status} cannot be looked for: {os.strerror(error.errno or 0)}") from error
    sidecar_name = names.with_suffix(names.prefix_of(status), names.SIDECAR).name
    raise Refused(
        f"{status} has no sidecar {sidecar_name} that says what was run: name the task file and the engines, "
        f"as in `taskrun TASKFILE -s HOST:SLOTS -r {shlex.quote(str(status))}`"
    )


def _find_beside(status: Path) -> Path | None:
    same_name = names.with_suffix(names.prefix_of(status), names.SIDECAR)
    if same_name.exists():
        return same_name
    wanted = (status.name, status.name.removesuffix(names.UNWRITTEN))
    naming = []
    for other in sorted(status.parent.glob(f"*{names.SIDECAR}")):
        with contextlib.suppress(Refused, trust.Untrusted):
            sidecar = load(other)
            if sidecar.status in wanted:
                naming.append((sidecar.started, other))
    return max(naming)[1] if naming else None


#: What the value of a key is to be (see forms), also of what others keep in `extra`. Values of other keys are taken as they come.
_NAME = r"[^/\0]*[^/\0.][^/\0]*"  # of a file, not . or ..
_TIME = (0.0, 1e11)  # epoch seconds
_ID = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
_PATH = r"/[^\0]*"
_WHOLE = (0, 1 << 62)
_LINES = {"count": _WHOLE, "group": (1, 1 << 62), "digests": "[0-9a-f]*", "directives": "[0-9a-f]{0,64}"}
_FORMS: dict[str, Any] = {
    "run_id": _ID, "version": str, "argv": [str], "cwd": _PATH, "status": _NAME, "host": str, "pid": (0, 1 << 31), "boot_id": str,
    "contexts": [{"kind?": str, "label?": str, "hosts?": {"": _WHOLE}, "limit?": _WHOLE, "job?": str, "from?": str}],
    "options": {"": {"value": object, "origin?": str, "valued?": [str]}},
    "started": _TIME, "ended?": _TIME, "exit_code?": (-(1 << 31), 1 << 31), "stream_complete?": bool,
    "task_file?": {"path": _PATH, "sha256": str, "size": _WHOLE, "lines?": _LINES},
    "counts?": {"": _WHOLE}, "resumed_from?": [_PATH],
    "name?": _NAME, "base?": _NAME, f"{DATA_TAG}?": r"[a-z0-9]{1,32}", "carried?": bool, "slurm?": [object],
    "idle_starts?": {"number": _WHOLE, "size": _WHOLE},
    "elsewhere?": {"runs": [_ID], "hosts": {"": _TIME}},
}  # fmt: skip


def _plain(value: object) -> str:
    if isinstance(value, bytes | os.PathLike):
        return os.fsdecode(value)
    raise TypeError(f"{type(value).__name__} has no form in a sidecar")
