"""What the report is made of: the comparison as a page that people read, and as Markdown."""

from limner.reporting.facts import ReportInputs
from limner.reporting.page import SIZE_LIMIT_BYTES, write_report

__all__ = ["SIZE_LIMIT_BYTES", "ReportInputs", "write_report"]
