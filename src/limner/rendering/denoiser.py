"""A UNet, with a ControlNet if there is one, as one function of noisy latents and timestep."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from limner.kernels.half_products import HalfProducts

Predict = Callable[[Tensor, Tensor], Tensor]  # of scaled latents (R, 4, H/8, W/8) and a timestep (), their shape


@dataclass(frozen=True)
class BatchInputs:
    """The inputs that are the same over the steps of a batch of R rows (both halves of guidance counted).

    `hint` is the output of the ControlNet's hint network for the conditioning image, the same at every step.
    """

    embeds: Tensor  # (R, 77, C)
    hint: Tensor | None = None  # (1 or R, C0, H/8, W/8)
    conditioning_scale: float = 1.0

    @property
    def tensors(self) -> list[Tensor]:
        """Its tensors, in a fixed order."""
        return [self.embeds] if self.hint is None else [self.embeds, self.hint]


class Denoiser(Protocol):
    """What `denoise` calls: the plain modules, or captured ones."""

    @property
    def weight(self) -> Tensor:
        """One of the UNet's weights: it has the device and precision."""
        ...

    def hint(self, image: Tensor) -> Tensor | None:
        """The hint network's output (B, C0, H/8, W/8) to conditioning images (B, 3, H, W) in [0, 1]."""
        ...

    def over(self, inputs: BatchInputs) -> contextlib.AbstractContextManager[Predict]:
        """A function that predicts the steps of one batch."""
        ...


class PlainDenoiser:
    """The modules, called directly; with `half_products` their fused blocks multiply in bf16."""

    def __init__(self, unet: nn.Module, controlnet: Any = None, half_products: bool = False) -> None:
        self.unet, self.controlnet, self.half_products = unet, controlnet, half_products

    @property
    def weight(self) -> Tensor:
        """One of the UNet's weights."""
        return next(self.unet.parameters())

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The modules by name."""
        return {"unet": self.unet} | ({"controlnet": self.controlnet} if self.controlnet is not None else {})

    def hint(self, image: Tensor) -> Tensor | None:
        """The hint network's output (B, C0, H/8, W/8) to conditioning images (B, 3, H, W) in [0, 1]."""
        if self.controlnet is None:
            return None
        weight = next(self.controlnet.parameters())
        return self.controlnet.controlnet_cond_embedding(image.to(weight.device, weight.dtype))

    @contextlib.contextmanager
    def over(self, inputs: BatchInputs) -> Iterator[Predict]:
        """A function that predicts the steps of one batch; an identity replaces the hint network meanwhile."""
        with self.without_hint_network(), HalfProducts() if self.half_products else contextlib.nullcontext():
            yield lambda scaled, timestep: self.predict(scaled, timestep, inputs)

    def predict(self, scaled: Tensor, timestep: Tensor, inputs: BatchInputs) -> Tensor:
        """The UNet's prediction, with the ControlNet's residuals (Zhang et al., 2023, equation 4)."""
        residuals: dict[str, Any] = {}
        if inputs.hint is not None:
            down, middle = self.controlnet(
                scaled,
                timestep,
                inputs.embeds,
                inputs.hint,
                conditioning_scale=inputs.conditioning_scale,
                return_dict=False,
            )
            residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        return self.unet(scaled, timestep, inputs.embeds, **residuals).sample

    @contextlib.contextmanager
    def without_hint_network(self) -> Iterator[None]:
        """In this block the ControlNet takes hints instead of pictures."""
        if self.controlnet is None:
            yield
            return
        hint_network = self.controlnet.controlnet_cond_embedding
        self.controlnet.controlnet_cond_embedding = nn.Identity()
        try:
            yield
        finally:
            self.controlnet.controlnet_cond_embedding = hint_network
