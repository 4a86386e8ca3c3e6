"""`python -m taskrun` is the same as `taskrun`."""

from taskrun.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
