"""Pictures and texts as vectors: the models for likeness, prompt fidelity and copying."""

from limner.embeddings.cache import Embedded, EmbeddingCache
from limner.embeddings.clip import ClipPair
from limner.embeddings.crops import WHOLE, Box, Crop, Square, read_image, view_boxes, view_crops
from limner.embeddings.efficientnet import EfficientNetLite0
from limner.embeddings.embedder import ImageEmbedder, PairEmbedder, Pixels
from limner.embeddings.find import EmbedderLocation, find_embedder
from limner.embeddings.subject_heads import SubjectHeads
from limner.embeddings.vision import VisionTransformer

__all__ = [
    "WHOLE",
    "Box",
    "ClipPair",
    "Crop",
    "EfficientNetLite0",
    "Embedded",
    "EmbedderLocation",
    "EmbeddingCache",
    "ImageEmbedder",
    "PairEmbedder",
    "Pixels",
    "Square",
    "SubjectHeads",
    "VisionTransformer",
    "find_embedder",
    "read_image",
    "view_boxes",
    "view_crops",
]
