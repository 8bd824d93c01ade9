"""LoRAs of other programs in and out: kohya (A1111, ComfyUI, Forge), diffusers old and new, PEFT, LyCORIS' forms."""

from limner.adapters.exchange.reading import ForeignLora, load_foreign, lora_file_in
from limner.adapters.exchange.writing import save_bin, save_diffusers, save_kohya

__all__ = ["ForeignLora", "load_foreign", "lora_file_in", "save_bin", "save_diffusers", "save_kohya"]
