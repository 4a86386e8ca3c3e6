"""The title of a process in `ps`, in place of the program that was sent: arguments are written over, as daemons do."""

#: Fields of /proc/self/stat behind the name: where the arguments begin and end in memory.
_ARGUMENTS = slice(45, 47)


def show(text: str) -> None:
    """Show this title from now on. Changes nothing where the system does not allow it."""
    try:
        with open("/proc/self/stat", "rb") as file:
            start, end = (int(field) for field in file.read().rpartition(b")")[2].split()[_ARGUMENTS])
        if end > start > 0:
            size = end - start
            with open("/proc/self/mem", "r+b", buffering=0) as memory:
                memory.seek(start)
                memory.write(text.encode("utf-8", "replace")[: size - 1].ljust(size, b"\0"))
    except (OSError, ValueError, OverflowError):
        pass
