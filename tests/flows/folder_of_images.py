"""Folders of small PNG files for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 4, 5


def write_images(folder: Path, *, n: int, classes: Sequence[str]) -> None:
    """``n`` grey images in a sub-folder for each class; those of later classes are brighter."""
    generator = np.random.default_rng(0)
    for i in range(n):
        label = i % len(classes)
        (folder / classes[label]).mkdir(parents=True, exist_ok=True)
        low = 255 * label // len(classes)
        values = generator.integers(low, low + 255 // len(classes), (HEIGHT, WIDTH), dtype=np.uint8)
        Image.fromarray(values).save(folder / classes[label] / f"{i}.png")
