"""Find, load and describe base models; turn prompts into embeddings."""

from limner.base.find import BaseLocation, find_base
from limner.base.load import Base, load_base, quiet_libraries
from limner.base.prompts import PromptTokens, encode_prompts, tokenize

__all__ = [
    "Base",
    "BaseLocation",
    "PromptTokens",
    "encode_prompts",
    "find_base",
    "load_base",
    "quiet_libraries",
    "tokenize",
]
