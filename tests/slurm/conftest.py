"""Fixtures of this folder."""

from __future__ import annotations

from slurm.jobs import jobs, place

__all__ = ["jobs", "place"]
