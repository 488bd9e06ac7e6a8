"""The report of a run: one HTML page that needs no other file, with a section for the modality of its samples."""

__all__ = ["write_report"]

from guided.report.page import write_report
