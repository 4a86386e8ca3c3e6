"""Files that a run writes, given as a task file by mistake: all their lines would be run. Recognised by what is in them."""

from __future__ import annotations

import re
import shlex

from taskrun.language.diagnostics import Diagnostic

_BEGIN = 4096  # bytes looked at
_MARK = b"\xef\xbb\xbf"  # what some editors write

_record = re.compile(
    rb"^(?:ROE\[ PSZ\]\tTaskID\t|"
    rb"(?:[R ][O ][E ][ PSZ]|[BC]    )\t\d{1,18}(?:\t-?\d{1,18}){2}\t[^\t\n]*(?:\t-?\d{1,18}){2}\t[-+.0-9a-z]{1,40}\t)",
    re.MULTILINE,
).search
_event = re.compile(rb'\{"t":[-\d.e]+,"kind":"').match
_object = re.compile(rb'\{\s*"v": ?\d+,\s*"').match
_log = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (?:DEBUG|INFO|WARNING|ERROR|CRITICAL) ").match
_list = re.compile(rb"FOREACH [^\n]*\n(?:\t|END \d)").match

_attaches = re.compile(rb'#!/bin/sh\n\[ "\$1" = --mon \] && exec ').match
_job = re.compile(rb"#!/bin/bash\n# Written by `taskrun submit`").match

STATUS, SIDECAR, EVENTS = "a status file", "the sidecar of a run", "the events file of a run"
JOB = "a job script of taskrun submit"
#: By a key that no other object of ours has.
_OBJECTS = (
    (b'"fingerprint":', "the attach file of a run"),
    (b'"pid_space":', "the lock of a run"),
    (b'"inputs":', "the manifest of a run"),
    (b'"data_tag":', SIDECAR),
    (b'"argv":', SIDECAR),
)


def kind_of(text: bytes) -> str:
    """What a file is that begins so, with its article; '' if it is none of ours."""
    begin = text[:_BEGIN].removeprefix(_MARK)
    if begin.startswith(b"{"):
        if _event(begin):
            return EVENTS
        if _object(begin):
            return next((what for key, what in _OBJECTS if key in begin), "")
        return ""
    if begin.startswith(b"#!"):
        return "the script by which engines join a run" if _attaches(begin) else JOB if _job(begin) else ""
    if _log(begin):
        return "the log of a run"
    if _list(begin):
        return "the list of a run's FOREACH files"
    return STATUS if _record(begin) else ""


def problem(text: bytes, name: str) -> Diagnostic | None:
    """The error for a task file `name` that begins so, None if nothing is wrong with it. `-` is standard input."""
    what = kind_of(text)
    if not what:
        return None
    message = f"this is {what}, no task file"
    hint = "sbatch submits it" if what == JOB else "taskrun -r PREFIX carries a run on"
    if what in (STATUS, SIDECAR, EVENTS):
        file = {STATUS: "STATUS", SIDECAR: "PREFIX", EVENTS: "PREFIX"}[what] if name == "-" else shlex.quote(name)
        message, hint = f"this is {what}: taskrun -r {file} carries on from it", "a task file has a command on each line"
    return Diagnostic.at("error", 1, 1, 1, message, hint, text[: text.find(b"\n") % (len(text) + 1)])
