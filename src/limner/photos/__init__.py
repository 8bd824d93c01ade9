"""Photos: listing a folder, where to look, which square to cut, and the contact sheet."""

from limner.photos.contact_sheet import SheetEntry, contact_sheet, used_entry
from limner.photos.cropping import CropPlan, cut, plan_crop
from limner.photos.focus import Focus, find_focus
from limner.photos.held_out import choose_held_out
from limner.photos.listing import Listing, Refusal, list_photos
from limner.photos.twins import Twins

__all__ = [
    "CropPlan",
    "Focus",
    "Listing",
    "Refusal",
    "SheetEntry",
    "Twins",
    "choose_held_out",
    "contact_sheet",
    "cut",
    "find_focus",
    "list_photos",
    "plan_crop",
    "used_entry",
]
