"""What every record is: a typed, frozen piece of JSON. Each field has its sentence, from which the documents are made.

Writing is strict: a record with a misspelt or unknown field cannot be made. Reading is not: a field that this limner
does not know, which a later one may have added, is ignored. A change that older readers would misunderstand raises the
record version of its artefact, and they refuse it by that.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

Size = tuple[int, int]  # width and height in px


class Record(BaseModel):
    """A part of a record: values cannot be changed after making it, unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; optional fields that were never given are left out."""
        return self.model_dump(mode="json", exclude_unset=True)

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """Read plain JSON values; unknown fields are ignored. Raises pydantic's ValidationError for wrong ones."""
        return cls.model_validate(raw, extra="ignore")


class MachineRecord(Record):
    """When, where and with which libraries something was made. Recorded, never part of a key."""

    time: str = ""
    """When it was written, as 2026-01-31T12:00:00+0000."""
    platform: str = ""
    """The operating system, as Python names it."""
    python: str = ""
    """Python's version."""
    processors: int | None = None
    """How many processors the machine has."""
    versions: dict[str, str] = {}
    """Versions of limner and of the libraries that compute."""
    seconds: float | None = None
    """How long it took to make, where the stage counts it here."""
    rendered: int | None = None
    """How many of the pictures were rendered then; the others lay there already."""
    device: str | None = None
    """The device that an adapter was trained on."""
    arithmetic: str | None = None
    """The number formats that a training computed in."""
    trained_with: list[str] = []
    """Other variants that were trained in the same pass; its seconds are of all of them together, so do not add them
    up."""


class ManifestRecord(Record):
    """The fields that every `manifest.json` has, beside those of its artefact, all at the top level."""

    stage: str
    """The stage that wrote the folder; it says which artefact this is."""
    version: int
    """The stage's version, raised when equal inputs begin to give other results."""
    record_version: int
    """The version of the artefact's record; a reader refuses a larger one than it knows."""
    key: str
    """SHA-256 of stage, version, settings and inputs: it names the result. A training's states have the training's."""
    settings: dict[str, Any]
    """The resolved settings that the stage read."""
    inputs: dict[str, Any]
    """Content hashes of what went in."""
    files: dict[str, str]
    """Every file of the artefact, by its path in the folder, with the SHA-256 of its content."""
    made: MachineRecord
    """When, where and with what it was made."""
    manifest_hash: str
    """SHA-256 of this whole file as canonical JSON (sorted keys, no spaces, UTF-8) without this field."""


class ArtifactRecord(Record):
    """What one kind of artefact says of itself in its manifest, beside the fields that all manifests have.

    Its fields stand at the manifest's top level, so none may have the name of one of `ManifestRecord`: defining such
    a class raises TypeError.
    """

    RECORD_VERSION: ClassVar[int] = 2  # 1: written before records had versions

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a class whose fields would overwrite the manifest's own."""
        super().__pydantic_init_subclass__(**kwargs)
        if taken := sorted(cls.model_fields.keys() & ManifestRecord.model_fields.keys()):
            raise TypeError(
                f"{cls.__name__}.{taken[0]} would overwrite a field of every manifest; give it another name"
            )
