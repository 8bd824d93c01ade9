"""Pictures from a base and an adapter: one batch, a whole grid, a quick look."""

from limner.rendering.batch import (
    Conditioning,
    PendingBatch,
    PromptEmbeddings,
    Recipe,
    Request,
    begin_batch,
    in_precision,
    render_batch,
    render_latents,
)
from limner.rendering.columns import Column, columns_of
from limner.rendering.denoise import denoise, initial_latents
from limner.rendering.denoiser import PlainDenoiser
from limner.rendering.execution import render_plan
from limner.rendering.fast import fast_denoiser
from limner.rendering.grid import Grid, Plan, Planned, hashes_of, remove_strays
from limner.rendering.png import encode_png, read_stamp
from limner.rendering.quick import recommended_render, render_prompt, render_validation

__all__ = [
    "Column",
    "Conditioning",
    "Grid",
    "PendingBatch",
    "PlainDenoiser",
    "Plan",
    "Planned",
    "PromptEmbeddings",
    "Recipe",
    "Request",
    "begin_batch",
    "columns_of",
    "denoise",
    "encode_png",
    "fast_denoiser",
    "hashes_of",
    "in_precision",
    "initial_latents",
    "read_stamp",
    "recommended_render",
    "remove_strays",
    "render_batch",
    "render_latents",
    "render_plan",
    "render_prompt",
    "render_validation",
]
