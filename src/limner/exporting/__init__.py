"""Results leave limner: adapters to files of other programs, LoRAs extracted, resized and merged."""

from limner.exporting.export import FORMS, export

__all__ = ["FORMS", "export"]
