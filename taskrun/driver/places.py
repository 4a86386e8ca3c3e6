"""Where data of a run can lie: the stores that locations name, this machine's folders, and hosts behind the engines' own connections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskrun.driver.member import Member
from taskrun.errors import Refused
from taskrun.staging import locations
from taskrun.staging.locations import Location
from taskrun.staging.sftp import SftpStore
from taskrun.staging.store import Store
from taskrun.staging.stores import Settings, Stores


class Places:
    """Every store of a run."""

    def __init__(self, settings: Settings, note: Callable[[str], None]) -> None:
        self.settings = settings
        self.note = note
        self.members: dict[str, Member] = {}  # engines that do not share the driver's folder
        self.stores = Stores(settings, self._host)

    def of(self, text: str) -> Location:
        """A location as written; a path is below the driver's folder. Raises Refused."""
        return locations.parse(text or "./")

    def on(self, engine: str, text: str) -> Location:
        """The same where a path is below the working directory of an engine ('' for the driver's)."""
        found = self.of(text)
        if found.kind == "local" and engine:
            return Location("engine", engine, found.path)
        return found

    def at(self, like: Location, text: str) -> Location:
        """A glob as written, in the store that `like` is in."""
        return self.on(like.where if like.kind == "engine" else "", text)

    def admit(self, member: Member) -> None:
        """An engine whose folder is not the driver's. Raises Refused when nothing can be moved there."""
        if not hasattr(member.agent, "open_sftp"):
            raise Refused(
                "data is moved to hosts that do not share this folder through the built-in SSH alone: leave out --ssh, or share the folder"
            )
        self.members[member.name] = member

    def dismiss(self, engine: str) -> None:
        if self.members.pop(engine, None) is not None:
            self.stores.forget(Location("engine", engine, ""))

    def _host(self, location: Location) -> Store:
        """Called from the mover's threads."""
        lost: tuple[type[Exception], ...] = _lost_errors()
        if location.kind == "engine":
            member = self.members.get(location.where)
            if member is None:
                raise Refused(f"{location.where}: the engine has gone")
            agent: Any = member.agent
            return SftpStore(member.request.host, agent.open_sftp, self.settings.tag, folder=member.cwd, digest=agent.sha256, lost=lost)
        from taskrun.engines.ssh_connection import SftpHost

        host = SftpHost(location.where, self.note)
        return SftpStore(location.where, host.open_sftp, self.settings.tag, digest=host.sha256, lost=lost)


def _lost_errors() -> tuple[type[Exception], ...]:
    from taskrun.engines.ssh_connection import lost_errors

    return lost_errors()


def new_places(folder: Path, tag: str, transfers: int, rclone_config: str, note: Callable[[str], None]) -> Places:
    """The places of a run with its working directory."""
    return Places(Settings(folder, tag, transfers, Path(rclone_config) if rclone_config else None), note)
