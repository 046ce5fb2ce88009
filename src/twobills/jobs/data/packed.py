"""What general compressors make of the same images: bits for each pixel as PNG, gzip and xz, all images in one file.

In one file, because a file of its own would cost each small image more than its pixels do: the compressors are shown at
their best. The levels are what is packed, one byte each, exactly those that the model predicts. PNG gets the smallest
number of bits that holds them and the best of its own settings.
"""

from __future__ import annotations

import gzip
import io
import lzma
from collections.abc import Mapping

import numpy as np
from PIL import Image

from twobills.jobs.data.images import Images, Levels


def packed_bits_per_pixel(images: Images) -> Mapping[str, float]:
    """Bits per pixel, all channels together, by compressor."""
    content = images.levels.tobytes()
    sizes = {
        "png": _png_bytes(images.levels),
        "gzip": len(gzip.compress(content, compresslevel=9, mtime=0)),
        "xz": len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)),
    }
    return {f"{name}_bits_per_pixel": 8 * size / images.n_pixels for name, size in sizes.items()}


def _png_bytes(levels: Levels) -> int:
    """All images below each other as one optimised PNG: grey or RGB, or with a palette of 1, 2 or 4 bits if smaller."""
    n, height, width, n_channels = levels.shape
    sheet = levels.reshape(n * height, width, n_channels)
    pictures: list[tuple[Image.Image, dict[str, int]]] = [
        (Image.fromarray(sheet.squeeze(-1) if n_channels == 1 else sheet), {})
    ]
    if n_channels == 1 and (depth := max(1, int(levels.max()).bit_length())) <= 4:
        palette = Image.fromarray(sheet.squeeze(-1))
        palette.putpalette(bytes(np.repeat(np.arange(256, dtype=np.uint8), 3)))
        pictures.append((palette, {"bits": 4 if depth == 3 else depth}))
    return min(_saved(picture, options) for picture, options in pictures)


def _saved(picture: Image.Image, options: Mapping[str, int]) -> int:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True, **options)
    return buffer.tell()
