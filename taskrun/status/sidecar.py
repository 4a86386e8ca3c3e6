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
from taskrun.status import names
from taskrun.status.durable import replace_whole

#: Version of the file's form. A reader takes any version up to its own.
VERSION = 1


@dataclass
class TaskFile:
    """The task file as it was read: `path` absolute, `sha256` in hex, `size` in bytes."""

    path: str
    sha256: str
    size: int


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

    def write(self, path: Path) -> None:
        """Replaces `path` by this, whole and durable. Raises RecordsFailed; then `path` is as it was."""
        values = asdict(self)
        text = json.dumps({"v": VERSION, **values.pop("extra"), **values}, ensure_ascii=True, indent=1, default=_plain)
        try:
            replace_whole(path, text.encode("ascii") + b"\n")
        except OSError as error:
            raise RecordsFailed(f"{path} cannot be written: {os.strerror(error.errno or 0)}") from error


def load(path: Path) -> Sidecar:
    """The sidecar in `path`. Unknown keys are kept in `extra`. Raises Refused: unreadable, no sidecar, a key missing, or too new."""
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise Refused(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from error
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise Refused(f"{path} is not the sidecar of a run: it holds no JSON object")
    version = values.pop("v", None)
    if not isinstance(version, int) or isinstance(version, bool):
        raise Refused(f"{path} is not the sidecar of a run: the key 'v' is missing")
    if version > VERSION:
        raise Refused(f"{path} was written by a newer taskrun (form {version}, this one reads up to {VERSION}): resume with that one")
    known = {}
    for one in fields(Sidecar):
        if one.name == "extra":
            continue
        if one.name in values:
            known[one.name] = _checked(path, one.name, values.pop(one.name))
        elif one.default is MISSING and one.default_factory is MISSING:
            raise Refused(f"{path} is not the whole sidecar of a run: the key '{one.name}' is missing")
    if known.get("task_file") is None and known.get("stream_complete") is None:
        raise Refused(f"{path} is not the whole sidecar of a run: the key 'task_file' is missing")
    return Sidecar(**known, extra=values)


def find(status: Path) -> Path:
    """The sidecar of a status file: the same name with `_run.json`, else the one in its folder that names it. Raises Refused."""
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
        with contextlib.suppress(Refused):
            sidecar = load(other)
            if sidecar.status in wanted:
                naming.append((sidecar.started, other))
    return max(naming)[1] if naming else None


#: What a value of the file may be; what is not listed is taken as it comes.
_TYPES: dict[str, tuple[type, ...]] = {
    "run_id": (str,), "version": (str,), "argv": (list,), "cwd": (str,), "status": (str,), "contexts": (list,), "options": (dict,),
    "host": (str,), "pid": (int,), "boot_id": (str,), "started": (int, float), "task_file": (dict, type(None)),
    "stream_complete": (bool, type(None)), "ended": (int, float, type(None)), "exit_code": (int, type(None)), "counts": (dict,),
    "resumed_from": (list,),
}  # fmt: skip


def _checked(path: Path, name: str, value: Any) -> Any:
    good = isinstance(value, _TYPES[name])
    if name in ("argv", "resumed_from"):
        good = good and all(isinstance(item, str) for item in value)
    if good and name in ("cwd", "status", "resumed_from"):
        good = all(map(_is_path, [value] if isinstance(value, str) else value))
    if name == "task_file" and value is not None and good:
        parts = {key: value.get(key) for key in ("path", "sha256", "size")}
        good = _is_path(parts["path"]) and isinstance(parts["sha256"], str) and isinstance(parts["size"], int)
        value = TaskFile(**parts) if good else value
    if not good:
        raise Refused(f"{path} is not the sidecar of a run: the key '{name}' has a value it cannot have")
    return value


def _is_path(value: object) -> bool:
    """Whether the system could take it for one."""
    try:
        return isinstance(value, str) and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def _plain(value: object) -> str:
    if isinstance(value, bytes | os.PathLike):
        return os.fsdecode(value)
    raise TypeError(f"{type(value).__name__} has no form in a sidecar")
