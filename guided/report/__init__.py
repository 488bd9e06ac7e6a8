"""The report of a run: one HTML file with its pictures."""

__all__ = ["write_report"]

from guided.report.report import write_report
