"""One picture of a few levels: as a PNG file, or as characters where there is only a terminal.

The file is written here (W3C PNG, section 5) so that drawing one picture loads no library of plots.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

SIDE = 256
"""Pixels of a PNG's longer side, about: small pictures are blown up without smoothing."""
_SHADES = " ░▒▓█"
_LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601)."""


def sheet(levels: Sequence[Any] | npt.NDArray[np.uint8], n_levels: int) -> npt.NDArray[np.uint8]:
    """Levels (height, width, channels) as red, green and blue of 0 to 255."""
    values = np.rint(np.asarray(levels, np.float32) * (255 / (n_levels - 1))).astype(np.uint8)
    return np.broadcast_to(values, (*values.shape[:2], 3))


def png(levels: Sequence[Any] | npt.NDArray[np.uint8], n_levels: int) -> bytes:
    """The picture as the content of a PNG file."""
    rgb = sheet(levels, n_levels)
    times = max(1, SIDE // max(rgb.shape[:2]))
    blown = np.repeat(np.repeat(rgb, times, 0), times, 1)
    height, width, _ = blown.shape
    rows = np.concatenate((np.zeros((height, 1), np.uint8), blown.reshape(height, -1)), axis=1)  # 0: a row as it is
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits of each of red, green and blue
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def characters(levels: Sequence[Any] | npt.NDArray[np.uint8], n_levels: int) -> str:
    """The picture in shades of grey, two characters a pixel, a line a row; bright is full."""
    bright = sheet(levels, n_levels) @ np.array(_LUMA) / 255
    shades = np.minimum((bright * len(_SHADES)).astype(int), len(_SHADES) - 1)
    return "\n".join("".join(2 * _SHADES[shade] for shade in row) for row in shades)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
