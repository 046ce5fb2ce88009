"""Held-out quality in the unit of what was learnt: bits per byte of text, bits per pixel of images.

One reading of a run's ``quality`` for the sentence, the table and the figure: what the model needs, and what the
compressors need.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Document = Mapping[str, Any]


class HeldOut(NamedTuple):
    """What was measured on data that the model never saw."""

    noun: str
    """``text`` or ``images``."""
    unit: str
    """``byte`` or ``pixel``."""
    bits: float | None
    """What the model needs for each."""
    others: list[Compressor]
    """In the order in which they are shown."""


class Compressor(NamedTuple):
    """A general compressor on the same data."""

    name: str
    how: str
    bits: float | None


def held_out(quality: Document) -> HeldOut:
    """What a run's ``quality`` says."""
    if "heldout_bits_per_pixel" in quality:
        named = (("PNG", "png"), ("gzip -9", "gzip"), ("xz -9e", "xz"))
        others = [Compressor(name, "all in one", quality.get(f"{key}_bits_per_pixel")) for name, key in named]
        return HeldOut("images", "pixel", quality["heldout_bits_per_pixel"], others)
    return HeldOut(
        "text",
        "byte",
        quality.get("heldout_bits_per_byte"),
        [
            Compressor("gzip -9", "file by file", quality.get("gzip_bits_per_byte")),
            Compressor("xz -9e", "all in one", quality.get("xz_bits_per_byte")),
        ],
    )
