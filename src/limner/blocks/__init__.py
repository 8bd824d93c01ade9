"""Faster forms of the blocks that Stable Diffusion's networks are made of, equal to diffusers' own."""

from limner.blocks.fused import fused

__all__ = ["fused"]
