"""Photos: listing a folder, decoding to upright sRGB, where to look, which square to cut, and the contact sheet."""

from limner.photos.contact_sheet import SheetEntry, contact_sheet, used_entry
from limner.photos.cropping import CropPlan, cut, plan_crop
from limner.photos.focus import Focus, Sight, choose_focuses, find_focus, see
from limner.photos.focus_file import BY_HAND, FOCUS_FILE, Wish, read_wishes
from limner.photos.held_out import choose_held_out
from limner.photos.listing import Listing, Refusal, list_photos
from limner.photos.reading import MOST_BYTES, Photo, RefusedPhotoError, read_photo
from limner.photos.twins import Twins

__all__ = [
    "BY_HAND",
    "FOCUS_FILE",
    "MOST_BYTES",
    "CropPlan",
    "Focus",
    "Listing",
    "Photo",
    "Refusal",
    "RefusedPhotoError",
    "SheetEntry",
    "Sight",
    "Twins",
    "Wish",
    "choose_focuses",
    "choose_held_out",
    "contact_sheet",
    "cut",
    "find_focus",
    "list_photos",
    "plan_crop",
    "read_photo",
    "read_wishes",
    "see",
    "used_entry",
]
