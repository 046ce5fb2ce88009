"""Data as a user states it: every bad value is one line that names the key."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from twobills.errors import RequestError
from twobills.specs.data import DataSpec, Format, Modality, Packing, SourceSpec, data_from_document

HERE = Path("/somewhere")


def read(text: str) -> DataSpec:
    return data_from_document(tomllib.loads(text), HERE)


def test_a_path_is_one_source_and_nothing_is_the_default() -> None:
    assert read('data = "texts"').sources == (SourceSpec(path=HERE / "texts"),)
    assert read("") == DataSpec()
    assert read("").sources[0].path is None


def test_digits_are_images_unless_something_has_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = DataSpec(modality=Modality.IMAGES)
    assert read('data = "digits"') == read('modality = "images"') == images
    assert read('data = "digits"\nmodality = "images"\nlevels = 17') == DataSpec(modality=Modality.IMAGES, levels=17)
    monkeypatch.chdir(tmp_path)
    assert DataSpec.of(Path("digits")) == images
    (tmp_path / "digits").mkdir()
    assert DataSpec.of(Path("digits")) == DataSpec(sources=(SourceSpec(path=Path("digits")),))
    assert data_from_document({"data": "digits"}, tmp_path).sources == (SourceSpec(path=tmp_path / "digits"),)


def test_tables_say_what_each_source_is() -> None:
    data = read(
        'modality = "bytes"\ndata_cache = "cache"\npacking = "documents"\n'
        '[[data]]\npath = "a.jsonl"\nweight = 3\nfield = "content"\n'
        '[[data]]\npath = "/b"\nweight = 0.5\nformat = "parquet"\n'
    )
    first, second = data.sources
    assert (first.path, first.weight, first.field, first.format) == (HERE / "a.jsonl", 3.0, "content", None)
    assert (second.path, second.weight, second.format) == (Path("/b"), 0.5, Format.PARQUET)
    assert (data.modality, data.cache, data.packing) == (Modality.BYTES, HERE / "cache", Packing.DOCUMENTS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data = 3", "data=3: must be a path"),
        ('data = ""', "data='': must be a path"),
        ("data = []", "is empty; give at least one source"),
        ("data = [1]", r"data=\[1\]: must be a path"),
        ("[[data]]\nweight = 1", "path is missing"),
        ('[[data]]\npath = "a"\nsize = 1', "unknown key 'size'; known are path, weight, format, field"),
        ('[[data]]\npath = "a"\nweight = "much"', "weight='much': must be a number"),
        ('[[data]]\npath = "a"\nweight = true', "weight=True: must be a number"),
        ('[[data]]\npath = "a"\nweight = 0', "weight=0: must be above 0"),
        ('[[data]]\npath = "a"\nweight = nan', "weight=nan: must be above 0"),
        ('[[data]]\npath = "a"\nweight = inf', "weight=inf: must be above 0"),
        ('[[data]]\npath = "a"\nformat = "csv"', "format='csv': must be one of files, jsonl, parquet, datasets"),
        ('[[data]]\npath = "a"\nformat = 1', "format=1: must be one of"),
        ('[[data]]\npath = "a"\nfield = ""', "field='': must name the field"),
        ('[[data]]\npath = "a"\nfield = 1', "field=1: must be the name"),
        ('[[data]]\npath = "a"\nweight = 1\n[[data]]\npath = "b"', "some sources have a weight and some have none"),
        ('[[data]]\npath = "a"\nweight = 1\n[[data]]\npath = "b"\nweight = 1e-9', "less than a millionth"),
        ('modality = "video"', "modality='video': must be one of text, bytes, images"),
        ('packing = "tight"', "packing='tight': must be one of stream, documents"),
        ("data_cache = 1", "data_cache=1: must be a path"),
        ('modality = "images"\nlevels = 1', "levels=1: must be between 2 and 256, and of images"),
        ("levels = 16", "levels=16: must be between 2 and 256, and of images"),
        ('modality = "images"\nlevels = 2.5', "levels=2.5: must be a whole number"),
        ('modality = "images"\n[[data]]\npath = "a"\n[[data]]\npath = "b"', "images come from one folder"),
    ],
)
def test_a_bad_value_is_one_line(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        read(text)
    assert "\n" not in str(caught.value)
