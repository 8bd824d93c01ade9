"""What a file or folder is, from headers and configurations alone."""

from limner.base.inspect.inspection import inspect, require_sd15, sentence
from limner.base.inspect.report import FileReport

__all__ = ["FileReport", "inspect", "require_sd15", "sentence"]
