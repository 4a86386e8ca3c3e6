"""The language of the task file: text to program items, and what is wrong with the text. The only user of lark."""

from taskrun.language.diagnostics import Diagnostic, render, render_all
from taskrun.language.items import Barrier, Foreach, Item, Lines, PerEngine, Prefix, Repeat, Suffix
from taskrun.language.reader import Reader
from taskrun.language.source import Scan, read_items, scan, scan_file

__all__ = [
    "Barrier",
    "Diagnostic",
    "Foreach",
    "Item",
    "Lines",
    "PerEngine",
    "Prefix",
    "Reader",
    "Repeat",
    "Scan",
    "Suffix",
    "read_items",
    "render",
    "render_all",
    "scan",
    "scan_file",
]
