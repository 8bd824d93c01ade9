"""Find, load and describe base models; turn prompts into embeddings."""

from limner.base.find import BaseLocation, find_base
from limner.base.load import Base, load_base, quiet_libraries
from limner.base.placing import Part, modules_placed, placed
from limner.base.prompts import PromptTokens, encode_prompts, tokenize

__all__ = [
    "Base",
    "BaseLocation",
    "Part",
    "PromptTokens",
    "encode_prompts",
    "find_base",
    "load_base",
    "modules_placed",
    "placed",
    "quiet_libraries",
    "tokenize",
]
