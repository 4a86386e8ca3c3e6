"""What `taskrun --help` says beside the options, fit for 80 columns."""

from __future__ import annotations

USAGE = "taskrun TASKFILE [options] | taskrun COMMAND …"

DESCRIPTION = """\
Runs each line of TASKFILE with bash, many at a time, and keeps a true record
of each.

commands:
  taskrun TASKFILE               run a task file; - for standard input
  taskrun -r STATUS [-R]         carry on from a run [try again what failed]
  taskrun check TASKFILE         find every problem of the file, run nothing
  taskrun hosts -s HOST:COUNT    is each of these hosts usable? a table
  taskrun submit TASKFILE -n N   run it as a job of SLURM, started again until
                                 all is done
  taskrun monitor PREFIX         engines and slots of a run, live; also when it
                                 is over
  taskrun attach PREFIX -s HOST  more engines for a run that goes on
  taskrun detach PREFIX ENGINE   send engines of it away
  taskrun completion SHELL       what bash, zsh or fish completes with
Each command but the first two has its own --help; below are the options of
those. A task file that is called like a command is ./check.
"""

EPILOG = """\
examples:
  taskrun tasks.txt -s localhost:8           run tasks.txt on 8 slots of this
                                             machine
  generate | taskrun - -s localhost:4        tasks start as lines arrive
  taskrun -r tasks_…_status.txt -R           carry on; run what failed again
  taskrun tasks.txt --dry-run                what would run, expanded
  taskrun tasks.txt -s gpu01:4,me@gpu02:4    on hosts that ssh reaches
  taskrun submit tasks.txt -n 20             20 tasks at a time, by SLURM

exit codes: 0 all ran · 1 tasks failed (with -e, -f or a failed BARRIER CHECK) ·
  2 refused, nothing was run · 3 stopped before the end, resumable ·
  4 could not keep records · 130/143 ended by a second SIGINT/SIGTERM
"""
