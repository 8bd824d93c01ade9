"""Ways of teaching, one module each: what it trains, sweeps over, stores and needs, and how it is attached."""

import limner.optimizers  # noqa: F401  # a variant's table may name them
from limner.methods.attachment import Attachment, Read, stored
from limner.methods.full import FullVariant, WholeWeightsMethod
from limner.methods.lora import LoraVariant, LowRankMethod
from limner.methods.protocol import Footprint, Method, ModuleOf, Point
from limner.methods.registry import (
    all_methods,
    known_method,
    method_making,
    method_named,
    method_of,
    read_variant,
    register,
    registered,
)
from limner.methods.runs import VariantRun, expand_variants, require_start, stacks_of, variant_stems

FULL, LORA = WholeWeightsMethod(), LowRankMethod()
for method in (FULL, LORA):
    register(method)

__all__ = [
    "FULL",
    "LORA",
    "Attachment",
    "Footprint",
    "FullVariant",
    "LoraVariant",
    "Method",
    "ModuleOf",
    "Point",
    "Read",
    "VariantRun",
    "all_methods",
    "expand_variants",
    "known_method",
    "method_making",
    "method_named",
    "method_of",
    "read_variant",
    "register",
    "registered",
    "require_start",
    "stacks_of",
    "stored",
    "variant_stems",
]
