"""Where data of a run can lie: the stores that locations name, this machine's folders, and those of engines that share none with it.

A folder of such an engine is called by the engine's address, '' is the driver's own. It may be looked at when its engine has gone: over SSH
by a connection of its own, on a node of the job by more steps. Of attached ones the context is part of the name, since who attaches chooses
the address: it could be that of somebody else. They can be reached as long as who attached them is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from taskrun import threads
from taskrun.driver.member import Member
from taskrun.engines.relayed import RelayedAgent
from taskrun.engines.request import Reach, is_address
from taskrun.engines.streams import Host, What
from taskrun.errors import Refused
from taskrun.staging import locations
from taskrun.staging.errands import Errands
from taskrun.staging.guard import Guard
from taskrun.staging.locations import Location
from taskrun.staging.sftp import SftpStore
from taskrun.staging.store import Permanent, Store, StoreError
from taskrun.staging.stores import Settings, Stores
from taskrun.staging.sums import Sums

SILENT_SECONDS = 60.0
LOOKS = 16  # hosts at a time that are looked at when they come: each may be a login or a job step
_ENGINE = "engine://"


class Folder(NamedTuple):
    """A working directory of tasks on a host that does not share the driver's."""

    address: str  # of attached ones CONTEXT,ADDRESS
    path: str
    offset: float  # seconds to add to its clock's times to have the driver's
    reach: Reach = "ssh"

    @property
    def host(self) -> str:
        return self.address.rpartition(",")[2].rpartition("@")[2]


def is_place(address: str, *, attached: bool) -> bool:
    """Return whether a record's address of a directory can be one: as in -s; of attached ones CONTEXT,ADDRESS."""
    context, comma, host = address.rpartition(",")
    return is_address(host) and (bool(context) and context.isprintable() and "/" not in context if attached else not comma)


class Places:
    """Every store of a run."""

    def __init__(
        self,
        settings: Settings,
        note: Callable[[str], None],
        *,
        ssh: str = "",
        on_engine: bool = False,
        silent: float = SILENT_SECONDS,
        nodes: Mapping[str, Host] | None = None,
    ) -> None:
        """`ssh`: the program that reaches engines' hosts, '' for the built-in one. `on_engine`: hosts move files themselves if they can.

        `silent`: seconds without a word from a host after which a transfer has failed, SILENT_SECONDS at most. `nodes`: those of the run's
        SLURM allocation.
        """
        self.settings = settings
        self.ssh = ssh
        self.on_engine = on_engine
        self.silent = min(SILENT_SECONDS, silent)
        self.note = note
        self.nodes = nodes or {}
        self.folders: dict[str, Folder] = {}  # of engines, also of those that have gone, and of earlier runs
        self.contexts: dict[str, str] = {}  # place of an attached engine → its context in this run
        self.stores = Stores(settings, self._host)
        self._members: dict[str, Member] = {}
        self._looks = threading.Semaphore(LOOKS)
        self._before: dict[str, Folder | None] = {}  # what was known of a place when its engine came
        self._names: dict[str, str] = {}  # attached engine → its place
        self._attached: dict[str, RelayedAgent] = {}  # by place

    def of(self, text: str) -> Location:
        """A location as written; a path is below the driver's folder, which '' is. Raises Refused."""
        return locations.parse(text or "./")

    def on(self, place: str, text: str) -> Location:
        """The same where a path is below the folder of a place."""
        found = self.of(text)
        if found.kind == "local" and place:
            return Location("engine", place, found.path)
        return found

    def at(self, like: Location, text: str) -> Location:
        """A glob as written, in the store that `like` is in."""
        return self.on(like.where if like.kind == "engine" else "", text)

    def recorded(self, text: str) -> Location:
        """A location as a delivery has recorded it. Raises Refused."""
        if not text.startswith(_ENGINE):
            return locations.parse(text)
        where, _, path = text.removeprefix(_ENGINE).partition("/")
        return Location("engine", where, path.removeprefix("~/") if path.startswith("~/") else f"/{path}")

    def name(self, member: Member) -> str:
        """The place that an engine works in."""
        return "" if member.shared else self._names.get(member.name, member.request.address)

    def admit(self, member: Member) -> None:
        """An engine whose folder is not the driver's."""
        if member.request.reach == "relay":
            name = self._names[member.name] = self._name_of_attached(member)
            self.contexts[name] = member.context
            assert isinstance(member.agent, RelayedAgent)
            self._attached[name] = member.agent
        name = self.name(member)
        self.stores.forget(Location("engine", name, ""))  # of an engine that was there before
        self._members[name] = member
        self._before[name] = self.folders.get(name)
        self.folders[name] = Folder(name, member.cwd, member.offset, member.request.reach)

    def expel(self, member: Member) -> None:
        """One that was admitted, but has never been used."""
        name = self.name(member)
        if self._members.get(name) is not member:
            return  # another one has taken its place
        self.dismiss(member)
        for found in (self.folders, self.contexts, self._attached):
            found.pop(name, None)
        before = self._before[name]
        if before is not None:
            self.folders[name] = before

    def _name_of_attached(self, member: Member) -> str:
        """That of the same folder of the same host before, if nobody else is there now; else one that no other has."""
        own, address = f"{member.context},{member.request.address}", member.request.address
        for name in (own, *self.folders):
            known = self.folders.get(name)
            if known is not None and name.endswith(f",{address}") and known.path == member.cwd and self._is_free(name, member.context):
                return name
        name, number = own, 1
        while name in self.folders:
            number += 1
            name = f"{member.context}.{number},{address}"
        return name

    def _is_free(self, name: str, context: str) -> bool:
        return name not in self._attached or self.contexts[name] == context or self._attached[name].gone

    def why_not(self, member: Member) -> str:
        """Why nothing can be moved to an engine, '' if it can, or might later. Blocks."""
        host = member.request.host
        try:
            store = self.stores.of(Location("engine", self.name(member), ""))
            assert isinstance(store, SftpStore)
            with self._looks:
                store.look()
        except (Permanent, Refused) as error:
            return str(error).removeprefix(f"{host}: ")
        except StoreError:
            pass
        return ""

    def tidy(self) -> None:
        """Now and then: sessions that nobody has used for a while end."""
        for store in self.stores.stale():
            threads.start_or_do(store.tidy, f"sessions with {store.place}")

    def remember(self, folder: Folder) -> None:
        """A place of an earlier run that may still have outputs."""
        self.folders.setdefault(folder.address, folder)

    @staticmethod
    def hold(member: Member) -> None:
        """The connection of its agent stays when that has left, until `let_go`. Through --ssh files go over connections of their own."""
        if hasattr(member.agent, "hold"):
            member.agent.hold()

    @staticmethod
    def let_go(member: Member) -> None:
        if hasattr(member.agent, "let_go"):
            member.agent.let_go()

    def dismiss(self, member: Member) -> None:
        """Its connection is of no use any more."""
        name = self.name(member)
        if self._members.get(name) is member:
            del self._members[name]
            self.stores.forget(Location("engine", name, ""))

    def _host(self, location: Location) -> Store:
        """Called from the mover's threads."""
        from taskrun.engines.ssh_sessions import SftpHost, lost_errors

        tag, lost = self.settings.tag, lost_errors()
        if location.kind == "engine":
            folder = self.folders.get(location.where)
            if folder is None:
                raise Refused(f"{location}: no engine of this run has worked there")
            way = _Way(self._members.get(location.where), self._own(folder), self.silent)
            host = folder.host
            trusted = folder.reach != "relay"  # who attaches a host has an invitation, and nothing that stores are told
            errands = Errands(host, way.session, self.note, lost, self.silent) if self.on_engine and trusted else None
            sums = Sums(partial(way.session, "sums"), lost)
            return SftpStore(host, way.open_sftp, tag, folder=folder.path, digest=sums, lost=lost, errands=errands)
        way = _Way(None, SftpHost(location.where, self.note), self.silent)
        return SftpStore(location.where, way.open_sftp, tag, digest=Sums(partial(way.session, "sums"), lost), lost=lost)

    def _own(self, folder: Folder) -> Host:
        """How a host is reached without the help of an agent. Raises Refused."""
        from taskrun.engines.ssh_program import ProgramHost
        from taskrun.engines.ssh_sessions import SftpHost

        address = folder.address
        if folder.reach == "slurm":
            if address not in self.nodes:
                raise Refused(f"{address} is no node of this job: what lies there is fetched in one that has it (sbatch -w {address})")
            return self.nodes[address]
        if folder.reach == "relay":
            if address not in self._attached:
                raise Refused(
                    f"nobody has attached {folder.host} to this run: what lies in {folder.path} there is fetched when it is attached"
                )
            return self._attached[address]
        return ProgramHost(self.ssh, address) if self.ssh else SftpHost(address, self.note)


class _Way:
    """The connection of an engine as long as its agent is there, where that has one for data, else one of our own."""

    def __init__(self, member: Member | None, host: Host, silent: float) -> None:
        self._engine: Any = (
            member.agent if member is not None and member.request.reach == "ssh" and hasattr(member.agent, "session") else None
        )
        self._host = host
        self._silent = silent

    def open_sftp(self) -> Any:
        from taskrun.engines.ssh_sessions import open_sftp

        return open_sftp(self.session("sftp"))

    def session(self, what: What) -> Any:
        """Raises OSError."""
        from taskrun.engines.ssh_sessions import Full

        if self._engine is not None:
            try:
                return self._engine.session(what, self._silent)
            except Full as full:
                try:
                    return self._host.session(what, self._silent)
                except OSError:  # not every host grants another login
                    raise full from None
            except ConnectionError:
                if not self._engine.held and not self._engine.ended():
                    raise  # it is silent: whether it is lost is said elsewhere
                self._engine = None
        return self._host.session(what, self._silent)


def new_places(
    folder: Path,
    tag: str,
    transfers: int,
    rclone_config: str,
    note: Callable[[str], None],
    guard: Guard | None = None,
    rate: int = 0,
    **more: Any,
) -> Places:
    """The places of a run with its working directory. `guard`: of files that must not be replaced. `more`: of Places.

    `rate`: bytes a second of all transfers together, 0 without a limit.
    """
    return Places(Settings(folder, tag, transfers, Path(rclone_config) if rclone_config else None, guard, rate), note, **more)
