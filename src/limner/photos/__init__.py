"""Photos: listing a folder, where to look, which square to cut, and the contact sheet."""

from limner.photos.checks import CHECKS_VERSION, LEAST_PHOTOS, flaws, strangers, without_head
from limner.photos.contact_sheet import SheetEntry, contact_sheet, used_entry
from limner.photos.cropping import Box, CropPlan, cut, plan_crop
from limner.photos.focus import Focus, Sight, choose_focuses, find_focus, see_all
from limner.photos.focus_file import BY_HAND, FOCUS_FILE, Wish, read_wishes
from limner.photos.held_out import choose_held_out
from limner.photos.judging import Look, judge, look_at
from limner.photos.listing import KohyaName, Listed, Listing, Refusal, kohya_name, list_photos, named_subject
from limner.photos.table import checked_table
from limner.photos.twins import Twins

__all__ = [
    "BY_HAND",
    "CHECKS_VERSION",
    "FOCUS_FILE",
    "LEAST_PHOTOS",
    "Box",
    "CropPlan",
    "Focus",
    "KohyaName",
    "Listed",
    "Listing",
    "Look",
    "Refusal",
    "SheetEntry",
    "Sight",
    "Twins",
    "Wish",
    "checked_table",
    "choose_focuses",
    "choose_held_out",
    "contact_sheet",
    "cut",
    "find_focus",
    "flaws",
    "judge",
    "kohya_name",
    "list_photos",
    "look_at",
    "named_subject",
    "plan_crop",
    "read_wishes",
    "see_all",
    "strangers",
    "used_entry",
    "without_head",
]
