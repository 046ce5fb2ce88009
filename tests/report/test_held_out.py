"""Held-out quality in its own unit, and the words, table and figures that are made of it."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.report.run_document import make_document
from twobills.report import sentences, tables
from twobills.report.figures.loss import quality_figure
from twobills.report.figures.pictures import pictures_figure
from twobills.report.held_out import held_out
from twobills.report.page import run_page


def quality(**change: Any) -> dict[str, Any]:
    return {
        "heldout_bits_per_pixel": 1.5,
        "png_bits_per_pixel": 4.0,
        "gzip_bits_per_pixel": 3.0,
        "xz_bits_per_pixel": 2.5,
        "heldout_accuracy": 0.975,
        "classification": {"n_images": 360, "n_classes": 10, "commonest_frac": 0.11},
        **change,
    }


def pictures(**change: Any) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    rows = [
        {
            "class": name,
            "real": generator.integers(0, 17, (2, 3, 4, 1)).tolist(),
            "drawn": [*generator.integers(0, 17, (3, 3, 4, 1)).tolist(), None],
        }
        for name in ("cat", "a dog with a very long name")
    ]
    found = {"shape": [3, 4, 1], "n_levels": 17, "rows": rows, "temperature": 0.8, "asked": 300, "whole": 299}
    return {**found, **change}


def test_images_are_measured_in_pixels_and_text_in_bytes() -> None:
    found = held_out(quality())
    assert (found.noun, found.unit, found.bits) == ("images", "pixel", 1.5)
    assert [other.bits for other in found.others] == [4.0, 3.0, 2.5]
    text = held_out({"heldout_bits_per_byte": 1.1, "gzip_bits_per_byte": 2.0})
    assert (text.noun, text.unit, text.bits) == ("text", "byte", 1.1)
    assert [other.bits for other in text.others] == [2.0, None]


def test_the_sentence_says_bits_and_right_answers() -> None:
    words = sentences.quality_sentence(quality())
    assert "1.50 bits for each pixel, 50.0 % fewer than gzip's 3.00" in words
    assert "right for 97.5 % of 360 images" in words
    assert "commonest of 10 classes would be right for 11.0 %" in words
    alone = quality(classification={"n_images": 0, "reason": "all images are of one class"})
    assert "no classes to tell apart: all images are of one class." in sentences.quality_sentence(alone)


def test_the_table_and_the_figure_have_every_compressor() -> None:
    table = tables.quality_table(quality())
    assert table.columns == ("Who", "Bits per pixel")
    assert [row[0] for row in table.rows] == [
        "this model",
        "PNG, all in one",
        "gzip -9, all in one",
        "xz -9e, all in one",
    ]
    svg = quality_figure(quality())
    assert svg is not None
    assert "Bits per pixel of held-out images: this model 1.50, PNG 4.00, gzip -9 3.00, xz -9e 2.50" in svg


def test_the_picture_holds_the_pixels_themselves() -> None:
    shown = pictures()
    svg = pictures_figure(shown)
    assert svg is not None
    found = re.findall(r'href="data:image/png;base64,([^"]*)"', svg)
    assert len(found) == 2 * (2 + 3)  # an answer that was no image has no cell
    first = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[0]))).convert("L")).astype(float)
    real = np.array(shown["rows"][0]["real"][0])[..., 0] * (255 / 16)
    assert np.abs(first - real).max() <= 1
    assert "cat" in svg
    assert "a dog with a…" in svg
    assert svg == pictures_figure(shown)


def test_colour_stays_colour() -> None:
    red = [[[3, 0, 0]] * 2] * 2
    svg = pictures_figure(
        pictures(shape=[2, 2, 3], n_levels=4, rows=[{"class": "image", "real": [red], "drawn": [red]}])
    )
    assert svg is not None
    png = re.findall(r'href="data:image/png;base64,([^"]*)"', svg)[0]
    assert Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("nothing", [None, {"rows": []}])
def test_no_picture_of_nothing(nothing: dict[str, Any] | None) -> None:
    assert pictures_figure(nothing) is None


def test_the_page_of_images_has_a_picture_and_no_text() -> None:
    document = make_document()
    document.update(samples=[], quality=quality(), pictures=pictures())
    document["data"] |= {"modality": "images", "width": 4, "height": 3, "n_channels": 1, "n_levels": 17}
    document["data"] |= {"quantised": "none", "classes": ["cat", "dog"]}
    document["plan"] |= {"sizes": [], "note": "Images get a shape of their own."}
    page = run_page(document)
    assert "300 images over HTTP, by class alone, 0.8 being the temperature; 299 of the answers" in page
    assert "data:image/png;base64," in page
    assert "What it writes" not in page
    assert "734 images" in page
    assert "4 x 3 grey, 17 levels (quantised: none), 2 classes" in page
    assert "Images get a shape of their own." in page
    assert "What it writes" in run_page(make_document())
