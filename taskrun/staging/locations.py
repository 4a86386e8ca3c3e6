"""Where data lies, as a person writes it: a path, `file://`, `s3://bucket/key`, `sftp://user@host/path`, `remote:path`. Pure.

A word with a colon before its first slash names a remote of rclone, as for rclone itself: a path that begins so is written `./a:b`.
Globs are the same everywhere: `*`, `?`, `[…]`, and `**` as a whole part for any number of folders; `[*]` is a star. What ends in `/` is
the whole tree below. A name that begins with a dot is matched only by a part that does, except in a tree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

from taskrun.errors import Refused

#: `engine`: a folder of a host that does not share the driver's, reached through its link; never written in a task file.
Kind: TypeAlias = Literal["local", "s3", "sftp", "rclone", "https", "engine"]

#: What our unfinished files are called, `.taskrun-TAG-DIGEST~`: no glob and no tree ever matches one.
UNFINISHED = ".taskrun-"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_REMOTE = re.compile(r"([\w.+@][\w .+@-]*):(.*)", re.DOTALL)
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,254}")
#: No option, and nothing that a ProxyCommand's shell would run. Variables have no value yet when a line is first looked at.
_HOSTNAME = re.compile(r"[^\s`'\"\\;&|<>()*?!-][^\s`'\"\\;&|<>()*?!]*")
#: Of a URL; it may hold a token, which has no place in records and messages.
_QUERY = re.compile(r"\?[^#]*")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_FORMS = "a path, file://, s3://bucket/key, sftp://user@host/path, https://host/path or remote:path"


class Target(NamedTuple):
    """Where one file goes: the folder a person named, through which links may lead, and its name below, through which none may."""

    folder: str  # "" or ends in "/"
    name: str

    @property
    def path(self) -> str:
        return self.folder + self.name


@dataclass(frozen=True)
class Location:
    """One place or glob. `where` names the store among those of its kind, `path` is what that store understands."""

    kind: Kind
    where: str
    path: str

    def __str__(self) -> str:
        if self.kind == "local":
            return f"./{self.path}" if ":" in self.path.partition("/")[0] else self.path
        if self.kind == "rclone":
            return f"{self.where}:{self.path}"
        if self.kind == "https":
            return f"https://{self.where}/{re.sub(_QUERY, '?…', self.path)}"
        path = self.path if self.kind == "s3" else self.path[1:] if self.path.startswith("/") else f"~/{self.path}"
        return f"{self.kind}://{self.where}/{path.replace('%', '%25') if self.kind == 'sftp' else path}"

    @cached_property
    def pattern(self) -> Pattern:
        if self.kind == "https":  # a web server tells no list, and `?` begins a query
            return Pattern(re.sub(r"[*?\[]", lambda found: f"[{found[0]}]", self.path))
        return Pattern(self.path)

    def named(self, relative: str) -> str:
        """Return the name that a file of this source has at its destination: of a URL neither query nor checksum is part of it."""
        return unquote(re.split("[?#]", relative)[0], errors="surrogateescape") if self.kind == "https" else relative

    @property
    def is_folder(self) -> bool:
        """Written as a folder: `x/`, `.`, `..`, or nothing after the store's name."""
        return self.path == "" or self.path.endswith("/") or self.path.rpartition("/")[2] in (".", "..")

    def at(self, path: str) -> Location:
        """Another path of the same store."""
        return replace(self, path=path)


class Pattern:
    """The names one path of a store stands for. `base`: its longest part without globs, "" or with a `/` at its end."""

    def __init__(self, text: str) -> None:
        parts = text.split("/")
        self.tree = parts[-1] in ("", ".", "..")
        if parts[-1] in (".", ".."):
            parts.append("")
        literal = [_literal(part) for part in parts]
        fixed = next((at for at, part in enumerate(literal) if part is None), len(parts) - 1)
        self.base = "".join(f"{part}/" for part in literal[:fixed])
        rest = parts[fixed:]
        #: The one name it stands for, None for a glob or tree.
        self.plain = self.base + (literal[-1] or "") if fixed == len(parts) - 1 and literal[-1] is not None and not self.tree else None
        #: Folders between `base` and a file that matches, at most; None: any number, and no links to folders are followed.
        self.levels = None if self.tree or "**" in rest else len(rest) - 1
        self._regex = re.compile(_regex(rest), re.DOTALL)

    def relative(self, name: str) -> str | None:
        """The name below `base` if the whole name matches; None otherwise."""
        if not name.startswith(self.base) or f"/{UNFINISHED}" in f"/{name}":
            return None
        below = name[len(self.base) :]
        return below if self._regex.fullmatch(below) else None


def parse(text: str) -> Location:
    """The location that `text` is. Raises Refused: one sentence, to be shown at the directive."""
    if not text:
        raise Refused(f"an empty location: write {_FORMS}")
    if "\0" in text:
        raise Refused("a location with a NUL byte names no file")
    if scheme := _SCHEME.match(text):
        name, rest = scheme[1].lower(), text[scheme.end() :]
        if name not in _URLS:
            raise Refused(f"{_without_secret(text)}: there is no store called {scheme[1]}://; write {_FORMS}")
        return _URLS[name](text, rest)
    if text.startswith(":"):
        raise Refused(f"{text.partition(',')[0]}: a remote made up on the spot may hold secrets; give it a name with `rclone config`")
    if "/" not in text.partition(":")[0] and (remote := _REMOTE.fullmatch(text)):
        return Location("rclone", remote[1], remote[2])
    if "/" not in text.partition(":")[0] and ":" in text:
        raise Refused(f"{text.partition(',')[0]}: no name of a remote can be written so; if it is a path, write ./ before it")
    return Location("local", "", text)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`$NAME` and `${NAME}` of TASKRUN_ and DISBATCH_ variables replaced, everything else as it is. Raises Refused for one not set."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if not name.startswith(("TASKRUN_", "DISBATCH_")):
            return found[0]
        if name not in variables:
            raise Refused(f"{text}: {name} has no value here; only the TASKRUN_ and DISBATCH_ variables of a task are replaced")
        return variables[name]

    return _VARIABLE.sub(value, text)


def target(dest: Location, source: Location, relative: str) -> Target:
    """Where the file that `source` found as `relative` goes under DEST. Raises Refused when that would be outside of it.

    A glob or tree goes below DEST; a single file becomes DEST itself unless DEST is written as a folder.
    """
    if source.pattern.plain is not None and not dest.is_folder:
        folder, slash, name = dest.path.rpartition("/")
        return Target(folder + slash, name)
    if (fault := escape(relative)) is not None:
        raise Refused(f"{source}: the name {relative!r} {fault}, so it has no place under {dest}; nothing was moved")
    folder = dest.path if dest.path in ("",) or dest.path.endswith("/") else dest.path + "/"
    return Target(folder, relative)


def escape(relative: str) -> str | None:
    """Why a name cannot lie below a folder; None if it can."""
    parts = relative.split("/")
    if relative.startswith("/"):
        return "is absolute"
    if ".." in parts:
        return "leads upwards"
    if "" in parts or "." in parts:
        return "has an empty part"
    return "has a NUL byte" if "\0" in relative else None


def _file(text: str, rest: str) -> Location:
    host, _, path = rest.partition("/")
    if host not in ("", "localhost"):
        raise Refused(f"{text}: file:// names files of this machine: write file:///{path}, or sftp://{host}/{path}")
    return Location("local", "", "/" + unquote(path, errors="surrogateescape"))


def _s3(text: str, rest: str) -> Location:
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise Refused(f"{text}: {bucket or 'nothing'} cannot be the name of a bucket; write s3://bucket/key")
    return Location("s3", bucket, key)


def _sftp(text: str, rest: str) -> Location:
    where, _, path = rest.partition("/")
    try:
        parts = urlsplit(f"sftp://{where}")
        port = parts.port
    except ValueError as error:
        raise Refused(f"{_without_secret(text)}: {error}; write sftp://user@host:22/path") from None
    if parts.password is not None:
        raise Refused(f"{_without_secret(text)}: a password does not belong into a task file; use a key or an agent")
    if not parts.hostname:
        raise Refused(f"{text}: the host is missing; write sftp://user@host/path")
    if not _HOSTNAME.fullmatch(parts.hostname) or (parts.username or "").startswith("-"):
        raise Refused(f"{_without_secret(text)}: {parts.hostname} is no name of a host; write sftp://user@host/path")
    name = parts.hostname if ":" not in parts.hostname else f"[{parts.hostname}]"
    user = f"{parts.username}@" if parts.username else ""
    decoded = unquote(path, errors="surrogateescape")
    home = decoded == "~" or decoded.startswith("~/")
    return Location("sftp", f"{user}{name}{f':{port}' if port else ''}", decoded[2:] if home else f"/{decoded}")


def _https(text: str, rest: str) -> Location:
    where, _, path = rest.partition("/")
    try:
        parts = urlsplit(f"https://{where}")
        parts.port  # noqa: B018 - raises where it is none
    except ValueError as error:
        raise Refused(f"{_without_secret(text)}: {error}; write https://host:443/path") from None
    if parts.username is not None or not parts.hostname or not _HOSTNAME.fullmatch(parts.hostname):
        raise Refused(f"{_without_secret(text)}: write https://host/path, without a user or password")
    return Location("https", where, path)


_URLS = {"file": _file, "s3": _s3, "sftp": _sftp, "https": _https}


def _without_secret(text: str) -> str:
    return re.sub(r"://[^/@]*@", "://…@", text)


def _literal(part: str) -> str | None:
    """What a part of a pattern stands for if it stands for one name: `a[*]b` is `a*b`."""
    plain = re.sub(r"\[([*?\[$])\]", "", part)
    return None if re.search(r"[*?]|\[.+\]", plain, re.DOTALL) else re.sub(r"\[([*?\[$])\]", r"\1", part)


def _regex(parts: list[str]) -> str:
    if parts == [""]:
        return ".+[^/]|[^/]"  # a tree: everything below, hidden or not
    text = ""
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        if part == "**":
            text += r"(?:(?!\.)[^/]+/)*" + (r"(?!\.)[^/]+" if last else "")
        elif last and part == "":
            text += ".*[^/]"
        else:
            text += _part(part) + ("" if last else "/")
    return text


def _part(part: str) -> str:
    text = "" if part.startswith(".") else r"(?!\.)"
    at = 0
    while at < len(part):
        char = part[at]
        end = part.find("]", at + 3 if part[at + 1 : at + 2] in ("!", "^") else at + 2) if char == "[" else -1
        if end > 0:
            inside = part[at + 1 : end]
            inverted = inside[:1] in ("!", "^")
            inside = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[inverted:])
            made = f"[{'^/' if inverted else ''}{inside}]"
            text += made if _compiles(made) else "(?!)"  # a range that ends before it begins matches nothing
            at = end
        elif char == "*":
            text += "" if text.endswith("[^/]*") else "[^/]*"
        else:
            text += "[^/]" if char == "?" else re.escape(char)
        at += 1
    return text


def _compiles(regex: str) -> bool:
    try:
        re.compile(regex)
    except re.error:
        return False
    return True
