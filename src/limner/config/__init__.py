"""The study file and every setting in it."""

from limner.config.settings import (
    BaseSettings,
    ClassImages,
    Control,
    ControlReference,
    FullVariant,
    LoraVariant,
    Measure,
    Precision,
    Prepare,
    Render,
    RenderPrompt,
    SamplerName,
    Section,
    Subject,
    Validation,
    VariantSettings,
)
from limner.config.study import Study, file_faults, merged, read_toml, resolve_study, setting_origins
from limner.config.variants import VariantRun, expand_variants

__all__ = [
    "BaseSettings",
    "ClassImages",
    "Control",
    "ControlReference",
    "FullVariant",
    "LoraVariant",
    "Measure",
    "Precision",
    "Prepare",
    "Render",
    "RenderPrompt",
    "SamplerName",
    "Section",
    "Study",
    "Subject",
    "Validation",
    "VariantRun",
    "VariantSettings",
    "expand_variants",
    "file_faults",
    "merged",
    "read_toml",
    "resolve_study",
    "setting_origins",
]
