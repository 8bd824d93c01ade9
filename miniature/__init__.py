"""How limner's embedded miniature of the Stable Diffusion 1.5 family was trained (not part of the wheel)."""
