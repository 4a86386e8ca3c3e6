"""The language of the task file: text to program items, and what is wrong with the text. The only user of lark."""

from taskrun.language.diagnostics import Diagnostic, render, render_all
from taskrun.language.items import Foreach, Item
from taskrun.language.reader import Reader
from taskrun.language.source import Scan, read_items, scan_file

__all__ = ["Diagnostic", "Foreach", "Item", "Reader", "Scan", "read_items", "render", "render_all", "scan_file"]
