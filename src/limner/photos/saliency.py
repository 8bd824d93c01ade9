"""The salient point of a photo, for subjects that no detector knows.

Spectral residual (Hou and Zhang, "Saliency detection: a spectral residual approach", CVPR 2007) squared, times
a broad Gaussian about where photographers put heads: the middle of the width, 36% of the way down.
"""

from __future__ import annotations

import numpy as np

WORKING_SIDE_PX = 64
SMOOTHING_PX = 3.8
CONTRAST = 2.0
PRIOR_CENTRE = (0.5, 0.36)  # shares of width and height
PRIOR_SPREAD = (0.35, 0.30)  # in short sides


def salient_point(pixels: np.ndarray) -> tuple[float, float]:
    """The mean position (x, y) px of what is salient in `pixels` (H, W, 3) uint8."""
    import cv2

    height, width = pixels.shape[:2]
    scale = WORKING_SIDE_PX / min(height, width)
    longest = 16 * WORKING_SIDE_PX  # a panorama's long side is squeezed
    size = (min(longest, round(width * scale)), min(longest, round(height * scale)))
    small = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    weight = _spectral_residual(small.astype(np.float32) / 255) ** CONTRAST * _prior(*size)
    total = weight.sum()
    if total <= 0:
        return width / 2, height / 2
    x = float((weight.sum(0) * (np.arange(size[0]) + 0.5)).sum() / total)
    y = float((weight.sum(1) * (np.arange(size[1]) + 0.5)).sum() / total)
    return x * width / size[0], y * height / size[1]


def _spectral_residual(grey: np.ndarray) -> np.ndarray:
    """Smoothed saliency (h, w), at least a twentieth of its mean everywhere."""
    import cv2

    spectrum = np.fft.fft2(grey)
    log_amplitude = np.log(np.abs(spectrum) + 1e-6).astype(np.float32)
    residual = log_amplitude - cv2.blur(log_amplitude, (3, 3))
    saliency = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    smooth = cv2.GaussianBlur(saliency.astype(np.float32), (0, 0), SMOOTHING_PX)
    smooth = smooth - smooth.min()
    return smooth / max(float(smooth.mean()), 1e-9) + 0.05


def _prior(width: int, height: int) -> np.ndarray:
    short = min(width, height)
    x = (np.arange(width) + 0.5 - PRIOR_CENTRE[0] * width) / (PRIOR_SPREAD[0] * short)
    y = (np.arange(height) + 0.5 - PRIOR_CENTRE[1] * height) / (PRIOR_SPREAD[1] * short)
    return np.exp(-(x[None, :] ** 2 + y[:, None] ** 2) / 2)
