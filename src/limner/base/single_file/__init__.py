"""SD 1.5 in one file of the original latent-diffusion layout: names, configuration, reading and writing."""
