"""limner: teach Stable Diffusion 1.5 one subject from a handful of photos, and say how well it worked."""

__version__ = "0.1.0"
