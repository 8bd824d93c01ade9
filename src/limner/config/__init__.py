"""The study file and every setting in it."""

from limner.config.settings import (
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
from limner.config.starts import files_as_adapters
from limner.config.study import Study, file_faults, merged, read_toml, resolve_study, setting_origins, with_settings
from limner.config.training_settings import FullVariant, LoraVariant, Validation, VariantSettings
from limner.config.values import Precision, SamplerName, Section
from limner.config.variants import VariantRun, expand_variants, stacks_of

__all__ = [
    "AdapterFile",
    "BaseSettings",
    "ClassImages",
    "Control",
    "ControlReference",
    "FullVariant",
    "LoraVariant",
    "Measure",
    "Memory",
    "Precision",
    "Prepare",
    "Render",
    "RenderPrompt",
    "Report",
    "SamplerName",
    "Section",
    "Study",
    "Subject",
    "Validation",
    "VariantRun",
    "VariantSettings",
    "expand_variants",
    "file_faults",
    "files_as_adapters",
    "merged",
    "read_toml",
    "resolve_study",
    "setting_origins",
    "stacks_of",
    "with_settings",
]
