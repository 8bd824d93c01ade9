"""Faster forms of the blocks that Stable Diffusion's networks are made of, equal to diffusers'."""

from limner.blocks.fused import fast, fused

__all__ = ["fast", "fused"]
