"""Samplers by name, through diffusers' schedulers; all are deterministic, so a picture needs only its initial noise.

ddim    Song et al., "Denoising diffusion implicit models", 2021, equation 12 with eta 0
unipc   Zhao et al., "UniPC", 2023
dpm++   Lu et al., "DPM-Solver++", 2022, algorithm 2 (2M)
euler   Karras et al., "Elucidating the design space", 2022, algorithm 2 without churn
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.errors import InputError

CLASSES = {
    "ddim": "DDIMScheduler",
    "unipc": "UniPCMultistepScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
}
# As StableDiffusionPipeline corrects the schedules of old checkpoints: latents are not clipped, and the
# timesteps start at 1, as in training.
CORRECTIONS = {"clip_sample": False, "steps_offset": 1}


def make_sampler(name: str, noise_schedule: Mapping[str, Any]) -> Any:
    """A fresh sampler over a base's noise schedule (`Base.noise_schedule`); each batch needs its own.

    Multi-step samplers keep previous steps, so an instance must not be used for two batches.
    Raises InputError for an unknown name.
    """
    import diffusers

    if name not in CLASSES:
        raise InputError(f'the sampler "{name}" is unknown; there are {", ".join(CLASSES)}')
    options = {"algorithm_type": "dpmsolver++", "solver_order": 2} if name == "dpm++" else {}
    return getattr(diffusers, CLASSES[name]).from_config(dict(noise_schedule), **CORRECTIONS, **options)
