"""Settings, each once, with its sentence: the tables of a study file, and what all ways of teaching share."""

from limner.settings.sections import (
    AdapterFile,
    BaseSettings,
    ClassImages,
    Control,
    ControlReference,
    Measure,
    Memory,
    Prepare,
    Render,
    RenderPrompt,
    Report,
    Subject,
)
from limner.settings.training import Validation, VariantSettings
from limner.settings.values import Precision, SamplerName, Section

__all__ = [
    "AdapterFile",
    "BaseSettings",
    "ClassImages",
    "Control",
    "ControlReference",
    "Measure",
    "Memory",
    "Precision",
    "Prepare",
    "Render",
    "RenderPrompt",
    "Report",
    "SamplerName",
    "Section",
    "Subject",
    "Validation",
    "VariantSettings",
]
