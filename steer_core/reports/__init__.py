"""Figures and pages, from published tables only: one page a cell, and a leaderboard a bench."""

from steer_core.reports.cell import build_cell_report
from steer_core.reports.files import ReportFiles
from steer_core.reports.inputs import CellTables
from steer_core.reports.leaderboard import build_leaderboard

#: Bumped when the same tables give another page.
VERSION = "4"

__all__ = ["VERSION", "CellTables", "ReportFiles", "build_cell_report", "build_leaderboard"]
