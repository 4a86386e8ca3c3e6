"""taskrun: runs a file of shell lines on cores, ssh hosts or a SLURM allocation, and keeps a true record of each."""

__version__ = "0.1.0"
