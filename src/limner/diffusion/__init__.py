"""Plain tensor functions of diffusion: randomness, noise schedule, objective, samplers, latents."""
