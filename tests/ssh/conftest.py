"""Fixtures of this folder."""

from __future__ import annotations

from ssh.place import hosts, place

__all__ = ["hosts", "place"]
