"""Who holds a lock: a process, told apart from every other one of any machine at any time."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from taskrun.status.forms import wrong

#: What can be known about an owner from here: it lives, it is dead for certain, or only its silence can tell (it is elsewhere).
Life: TypeAlias = Literal["alive", "dead", "unknown"]

VERSION = 1
_START_TIME = 22 - 3  # field 22 of /proc/PID/stat; counting begins after `pid (name) `, at field 3


class SlurmJob(NamedTuple):
    """A SLURM job, and which of its starts this is: SLURM starts one again only when the earlier start is over."""

    id: str  # with the cluster's name; empty outside of a job
    start: int  # 0 for the first

    @classmethod
    def from_plain(cls, value: Any) -> SlurmJob:
        """Of what a sidecar holds; no job if that is anything else."""
        match value:
            case [str(id_), int(start)]:
                return cls(id_, start)
        return cls("", 0)


def slurm_job() -> SlurmJob:
    """The job that this process belongs to."""
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("SLURM_JOBID")
    start = os.environ.get("SLURM_RESTART_COUNT", "")
    if not job:
        return SlurmJob("", 0)
    return SlurmJob(f"{job}@{os.environ.get('SLURM_CLUSTER_NAME', '')}", int(start) if start.isdecimal() else 0)


@dataclass(frozen=True)
class Owner:
    """The content of a lock file. `machine` (a digest) and `pid_space` tell hosts of one name and containers apart; empty if unknown."""

    run_id: str
    host: str
    boot_id: str
    pid: int
    start_time: int  # of the process, in clock ticks after boot: a pid that is used again has another
    since: float  # epoch seconds
    machine: str = ""
    pid_space: str = ""
    token: str = ""  # makes each lock one of its kind, also two of one process
    slurm_job: str = ""
    slurm_start: int = 0

    def to_json(self) -> bytes:
        return json.dumps({"v": VERSION, **asdict(self)}, ensure_ascii=True).encode("ascii") + b"\n"


def this_process(run_id: str) -> Owner:
    """This process as the owner of a lock."""
    pid = os.getpid()
    return Owner(run_id, socket.gethostname(), boot_id(), pid, _start_time(pid), round(time.time(), 3), _machine(), _pid_space(),
                 secrets.token_hex(6), *slurm_job())  # fmt: skip


def from_json(data: bytes) -> Owner | None:
    """The owner in a lock file's content; None if that is garbage."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if wrong(values, _FORM):
        return None
    return Owner(**{one.name: values[one.name] for one in fields(Owner) if values.get(one.name) is not None})


#: See forms. Names are as they can be shown: a lock is read by everybody who shares the folder.
_SHOWN = r"[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]{0,300}"
_FORM = {
    "run_id": _SHOWN, "host": _SHOWN, "boot_id": str, "pid": (1, 1 << 31), "start_time": (-1, 1 << 62), "since": (0.0, 1e11),
    "machine?": str, "pid_space?": str, "token?": str, "slurm_job?": str, "slurm_start?": (0, 1 << 31),
}  # fmt: skip


def life_of(owner: Owner) -> Life:
    """Whether the owner lives, as far as this process can see."""
    if _is_elsewhere(owner):
        return "dead" if is_earlier_start(owner) else "unknown"
    if owner.boot_id != boot_id():
        return "dead"
    if owner.pid_space and owner.pid_space != _pid_space():
        return "unknown"
    try:
        os.kill(owner.pid, 0)
    except (ProcessLookupError, OverflowError):
        return "dead"
    except PermissionError:
        pass  # another user's, so it is there
    started = _start_time(owner.pid)
    return "dead" if started < 0 or (started and started != owner.start_time) else "alive"


def is_earlier_start(owner: Owner) -> bool:
    """Elsewhere, in an earlier start of this SLURM job: dead as far as SLURM knows."""
    job = slurm_job()
    return _is_elsewhere(owner) and bool(job.id) and owner.slurm_job == job.id and owner.slurm_start < job.start


def _is_elsewhere(owner: Owner) -> bool:
    return owner.host != socket.gethostname() or bool(owner.machine and owner.machine != _machine())


def boot_id() -> str:
    """What changes with each boot of this machine; empty where the system does not tell."""
    return _first_line("/proc/sys/kernel/random/boot_id")


def _start_time(pid: int) -> int:
    """Clock ticks after boot; -1 for a process that has ended and is only not yet reaped, 0 if it cannot be known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    columns = stat[stat.rfind(b")") + 2 :].split()
    if columns[0] in (b"Z", b"X"):
        return -1
    return int(columns[_START_TIME])


def _machine() -> str:
    name = _first_line("/etc/machine-id")
    return hashlib.sha256(b"taskrun " + name.encode()).hexdigest()[:16] if name else ""  # the id itself is nobody's business


def _pid_space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
