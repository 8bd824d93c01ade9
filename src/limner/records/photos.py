"""Records of the photo set and of class images."""

from __future__ import annotations

from limner.records.base import ArtifactRecord, Record, Size


class CropBox(Record):
    """A rectangle in px of the upright source; x1 and y1 lie just outside it."""

    x0: int
    """Left edge."""
    y0: int
    """Upper edge."""
    x1: int
    """Right edge."""
    y1: int
    """Lower edge."""

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1: the box as Pillow takes it."""
        return self.x0, self.y0, self.x1, self.y1


class HeadRecord(Record):
    """A head that was found in a photo."""

    box: tuple[int, int, int, int]
    """Left, upper, right and lower edge in px of the upright source."""
    kind: str
    """What it is a head of: a person, a cat or a dog."""
    score: float
    """How sure the finder is, from 0 to 1."""


class PhotoRecord(Record):
    """One crop and the photo that it was cut from."""

    source: str
    """Name of the photo's file."""
    file: str
    """The crop's file in `photos/`."""
    size: Size
    """Width and height of the upright source in px."""
    crop: CropBox
    """What was cut out."""
    focus: str
    """How the place of the crop was chosen."""
    head: HeadRecord | None
    """The head that the crop was placed by, null where there was none."""
    notes: list[str]
    """All that is remarkable about the photo, warnings among it."""
    warnings: list[str]
    """What may harm the training."""
    crop_size: Size | None = None
    """Width and height of a crop that lies in a bucket; left out for squares."""
    held_out: bool = False
    """Whether no training sees it."""
    caption: str = ""
    """What the photo shows beside the subject, for its prompt."""
    repeats: int = 1
    """How many times as often it is trained on as a photo with 1."""


class RefusedPhoto(Record):
    """A photo that is not used."""

    source: str
    """Name of the photo's file."""
    reason: str
    """Why it cannot be used."""


class UnusedFile(Record):
    """Something in the photo folder that is neither a photo nor used with one."""

    source: str
    """Name of the file or folder."""
    reason: str
    """Why nothing uses it."""


class PhotoSetRecord(ArtifactRecord):
    """`photos/`: crops of the subject as they are trained on, without metadata of the originals."""

    photos: list[PhotoRecord]
    """The crops, in the order of their files."""
    refused: list[RefusedPhoto]
    """Photos that are left out."""
    unused: list[UnusedFile] = []
    """Captions and rows that match no photo, folders that are not read, files of other kinds."""
    judgement: list[str] = []
    """What the photos are like together, and what would improve them."""


class ClassImage(Record):
    """One picture of the class, for prior preservation."""

    file: str
    """Its file in `class/`."""
    index: int
    """Its number, by which its randomness is drawn."""
    key: str
    """Names everything it was made from."""
    size: Size | None = None
    """Width and height in px; left out where all are squares."""
    source: str | None = None
    """Name of the user's own picture, where it was cut from one."""


class ClassSetRecord(ArtifactRecord):
    """`class/`: class images for prior preservation, shared by all variants."""

    prompt: str
    """The class prompt they are trained with."""
    images: list[ClassImage]
    """The pictures, in order."""
    keys: dict[str, str]
    """The key of each picture, by file."""
