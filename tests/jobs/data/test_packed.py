"""What compressors need for the same images."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from twobills.jobs.data.images import Images, Levels
from twobills.jobs.data.packed import packed_bits_per_pixel


def packed(levels: Levels) -> dict[str, float]:
    return dict(packed_bits_per_pixel(Images(levels, np.zeros(len(levels), np.int64), ("x",) * len(levels))))


def test_noise_costs_its_entropy_and_flat_images_nearly_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 16, (200, 8, 8, 1), dtype=np.uint8)
    for name, bits in packed(noise).items():
        assert 4.0 < bits < 4.7, name
    for bits in packed(np.zeros((200, 8, 8, 1), np.uint8)).values():
        assert bits < 0.1


def test_a_colour_pixel_counts_once() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    assert all(24 < bits < 26 for bits in packed(noise).values())


def test_png_is_shown_at_its_best() -> None:
    """No larger than Pillow's ordinary optimised file of the same sheet."""
    levels = np.random.default_rng(0).integers(0, 4, (50, 8, 8, 1), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels.reshape(400, 8)).save(buffer, "PNG", optimize=True)
    assert packed(levels)["png_bits_per_pixel"] < 8 * buffer.tell() / 3200
