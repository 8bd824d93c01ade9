"""What `start_from` may name: a result by its name, or a LoRA's file, told apart by their form alone."""

from __future__ import annotations

import pytest

from limner.config import expand_variants, files_as_adapters, resolve_study
from limner.errors import StudyError

SUBJECT = {"subject": {"photos": "photos", "class_noun": "cat"}}
THEIRS = {"name": "theirs", "file": "theirs.safetensors"}


def study(*variants, adapters=()):
    tables = {**SUBJECT, "variants": list(variants)} | ({"adapters": list(adapters)} if adapters else {})
    return resolve_study(files_as_adapters(tables), {})


@pytest.mark.parametrize("start", ["theirs.safetensors", "loras/theirs.safetensors", "./theirs", "/x/theirs"])
def test_a_file_to_start_from_becomes_an_adapter(start):
    made = study({"method": "lora", "start_from": start})
    assert [(a.name, str(a.file), a.merged) for a in made.adapters] == [("theirs", start.removeprefix("./"), False)]
    assert [run.start_from for run in expand_variants(made.variants)] == ["theirs"]


def test_full_training_starts_from_the_file_merged_and_each_file_is_taken_once():
    made = study(
        {"method": "full", "start_from": "a b@.safetensors"},
        {"method": "lora", "name": "one", "start_from": "a b@.safetensors", "training_seeds": [0, 1]},
        {"method": "lora", "name": "two", "start_from": "a b@.safetensors"},
    )
    assert [(a.name, a.merged) for a in made.adapters] == [("a b--merged", True), ("a b-", False)]
    assert {run.label: run.start_from for run in expand_variants(made.variants)} == {
        "full": "a b--merged", "one@0": "a b-", "one@1": "a b-", "two": "a b-",
    }  # fmt: skip


def test_an_adapter_is_named_as_a_variant_is():
    made = study({"method": "lora", "start_from": "theirs"}, adapters=[THEIRS])
    assert made.variants[0].start_from == "theirs"
    assert study(adapters=[THEIRS]).variants == []  # compared without any training


@pytest.mark.parametrize(
    ("variants", "adapters", "said"),
    [
        (
            [{"method": "lora", "start_from": "thiers"}],
            [THEIRS],
            "names no variant above it .there: theirs.*slash in it",
        ),
        ([{"method": "full", "start_from": "theirs"}], [THEIRS], "set merged = true"),
        ([{"method": "full", "name": "theirs"}], [THEIRS], 'both be called "theirs"'),
        (
            [
                {"method": "full", "name": "x.safetensors"},
                {"method": "lora", "start_from": "x.safetensors"},
            ],
            [],
            'is a name and may be a file: write "./x.safetensors"',
        ),
        ([{"method": "lora", "targets": "start"}], [], "are those of the LoRA in start_from"),
    ],
)
def test_what_fits_neither_or_both_is_said(variants, adapters, said):
    with pytest.raises(StudyError, match=said):
        study(*variants, adapters=adapters)


def test_a_file_of_a_variants_name_can_still_be_named():
    made = study({"method": "full", "name": "x.safetensors"}, {"method": "lora", "start_from": "./x.safetensors"})
    assert made.variants[1].start_from == "x"
