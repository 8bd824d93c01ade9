"""Photos: listing a folder, finding the subject, cropping, checking, and the contact sheet."""

from limner.photos.buckets import bucket_sizes, nearest_size
from limner.photos.candidates import Candidate, CropRequest, SeenPhoto, look_and_cut
from limner.photos.checks import CHECKS_VERSION, LEAST_PHOTOS, dissimilar_photos, flaws, without_head
from limner.photos.contact_sheet import SheetEntry, contact_sheet
from limner.photos.cropping import Box, CropPlan, plan_crop
from limner.photos.focus import Focus, Sight, choose_heads, find_focus, possible_focuses
from limner.photos.focus_file import FOCUS_FILE, ManualCrop, read_manual_crops
from limner.photos.held_out import choose_held_out
from limner.photos.judging import Look, judge, look_at
from limner.photos.listing import (
    KohyaName,
    Listed,
    Listing,
    Refusal,
    kohya_name,
    list_photos,
    list_pictures,
    named_subject,
)
from limner.photos.table import checked_table, table_of, unused_rows
from limner.photos.twins import Twins, small_copy

__all__ = [
    "CHECKS_VERSION",
    "FOCUS_FILE",
    "LEAST_PHOTOS",
    "Box",
    "Candidate",
    "CropPlan",
    "CropRequest",
    "Focus",
    "KohyaName",
    "Listed",
    "Listing",
    "Look",
    "ManualCrop",
    "Refusal",
    "SeenPhoto",
    "SheetEntry",
    "Sight",
    "Twins",
    "bucket_sizes",
    "checked_table",
    "choose_heads",
    "choose_held_out",
    "contact_sheet",
    "dissimilar_photos",
    "find_focus",
    "flaws",
    "judge",
    "kohya_name",
    "list_photos",
    "list_pictures",
    "look_and_cut",
    "look_at",
    "named_subject",
    "nearest_size",
    "plan_crop",
    "possible_focuses",
    "read_manual_crops",
    "small_copy",
    "table_of",
    "unused_rows",
    "without_head",
]
