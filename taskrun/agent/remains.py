"""What attempts have left on this node: kept in mind until the agent leaves, which then says what of it still lives."""

import os

from . import ending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Tuple

ATTEMPTS_MOST = 1000  # that are kept in mind, the first ones
SHOWN_MOST = 20  # processes that are named
COMMAND_MOST = 200  # bytes


class Remains(object):
    def __init__(self, mark_of: "Callable[[tuple], bytes]") -> None:
        """`mark_of`: the mark of an attempt."""
        self.mark_of = mark_of
        self.keys: "Dict[bytes, tuple]" = {}  # by mark
        self.pids: "Dict[Tuple[int, int], tuple]" = {}  # attempt by (pid, when it began)

    def add(self, key: tuple, processes: "Any") -> None:
        """The attempt has left these. Raises an error when that cannot be true."""
        for pid, begun in processes:
            if type(pid) is not int or type(begun) is not int or pid < 2:
                raise ValueError("it has left what is no process")
        if len(self.keys) < ATTEMPTS_MOST:
            self.keys[self.mark_of(key)] = key
            for pid, begun in processes:
                self.pids[pid, begun] = key

    def look(self) -> "Tuple[int, List[List[Any]]]":
        """(how many processes live, the first of them: the attempt's kind, number and n, the process id, its command line).

        Nothing is looked at if nothing was left. What a process without a mark has started since is not found.
        """
        if not self.keys:
            return 0, []
        own = os.getpid()
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == own:
                continue
            pid = int(name)
            begun = ending.begun(pid)
            if begun:
                key = self.pids.get((pid, begun)) or self.carried(pid)
                if key:
                    found.append((begun, pid, key))
        found.sort()
        rows = []
        for _, pid, key in found[:SHOWN_MOST]:
            rows.append([*key, pid, ending.command(pid)[:COMMAND_MOST].decode("utf-8", "surrogateescape")])
        return len(found), rows

    def carried(self, pid: int) -> "Any":
        """Return the attempt whose mark the process carries, if it is one of those."""
        for mark in ending.marks(pid):
            if mark in self.keys:
                return self.keys[mark]
        return None
