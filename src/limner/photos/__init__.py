"""Photos: listing a folder, where to look, which part to cut, and the contact sheet."""

from limner.photos.buckets import bucket_sizes, nearest_size
from limner.photos.candidates import Candidate, Making, SeenPhoto, look_and_cut
from limner.photos.checks import CHECKS_VERSION, LEAST_PHOTOS, flaws, strangers, without_head
from limner.photos.contact_sheet import SheetEntry, contact_sheet
from limner.photos.cropping import Box, CropPlan, plan_crop
from limner.photos.focus import Focus, Sight, choose_heads, find_focus, possible_focuses
from limner.photos.focus_file import FOCUS_FILE, Wish, read_wishes
from limner.photos.held_out import choose_held_out
from limner.photos.judging import Look, judge, look_at
from limner.photos.listing import KohyaName, Listed, Listing, Refusal, kohya_name, list_photos, named_subject
from limner.photos.table import checked_table
from limner.photos.twins import Twins, small_copy

__all__ = [
    "CHECKS_VERSION",
    "FOCUS_FILE",
    "LEAST_PHOTOS",
    "Box",
    "Candidate",
    "CropPlan",
    "Focus",
    "KohyaName",
    "Listed",
    "Listing",
    "Look",
    "Making",
    "Refusal",
    "SeenPhoto",
    "SheetEntry",
    "Sight",
    "Twins",
    "Wish",
    "bucket_sizes",
    "checked_table",
    "choose_heads",
    "choose_held_out",
    "contact_sheet",
    "find_focus",
    "flaws",
    "judge",
    "kohya_name",
    "list_photos",
    "look_and_cut",
    "look_at",
    "named_subject",
    "nearest_size",
    "plan_crop",
    "possible_focuses",
    "read_wishes",
    "small_copy",
    "strangers",
    "without_head",
]
