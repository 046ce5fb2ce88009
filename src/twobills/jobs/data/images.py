"""Images to learn from: scikit-learn's digits, or a folder of PNGs, as levels of grey or of colour with a class each.

All images have one size and one kind (grey or RGB). A class is the first sub-folder of the path; images that lie in no
sub-folder are all of one class. Values of 0 to 255 are quantised to a stated number of levels of equal width, and what
is measured afterwards is about those. An image is held out by the hash of its relative path. Shapes: N images,
height, width, channels.
"""

from __future__ import annotations

import hashlib
import os
import struct
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from twobills.errors import DataError, MissingExtraError, RequestError

HELDOUT_EVERY = 5
"""One image in so many is held out: images are few, and an accuracy needs some hundred."""
HELDOUT_VALUES = 1_000_000
"""Of the held-out images so many values are measured; the rest is kept back all the same."""
MIN_IMAGES = 10
MOST_VALUES = 4_094
"""Values (pixels times channels) of one image: with its end and its class they fill the longest context served."""
MOST_BYTES = 2_000_000_000
N_LEVELS = 16
"""Of a PNG's values, unless another number is asked for."""
DIGIT_LEVELS = 17
ONE_CLASS = "image"
"""The class of images that lie in no sub-folder."""
Levels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

_MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Images(NamedTuple):
    """Some images and what they show."""

    levels: Levels
    """(N, height, width, channels), each below the number of levels."""
    labels: Labels
    """(N,) places in the list of classes."""
    names: tuple[str, ...]
    """Relative paths."""

    @property
    def n_pixels(self) -> int:
        """Pixels of all of them; those of three colours count once."""
        n, height, width, _ = self.levels.shape
        return int(n * height * width)

    def take(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Images:
        """Those at some places."""
        return Images(self.levels[chosen], self.labels[chosen], tuple(np.array(self.names, object)[chosen]))


class ImageCorpus(NamedTuple):
    """Images, split once and for all."""

    name: str
    classes: tuple[str, ...]
    n_levels: int
    quantised: str
    """How the stored values became levels."""
    training: Images
    heldout: Images
    """Those that are measured."""
    split: str
    """How it was decided which are which."""
    encoding: str = "pixels"

    @property
    def training_bytes(self) -> int:
        """Values to learn from, one byte each."""
        return self.training.levels.nbytes

    @property
    def heldout_bytes(self) -> int:
        """Values kept back."""
        return self.heldout.levels.nbytes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return self.training.levels.shape[1:]


def read_images(path: Path | None, n_levels: int | None = None) -> ImageCorpus:
    """The PNGs below ``path``, or the digits. Raises DataError naming the file, MissingExtraError without the extra."""
    if n_levels is not None and not 2 <= n_levels <= 256:
        raise RequestError(f"levels={n_levels}: must be between 2 and 256")
    if path is None:
        return _digits(n_levels)
    if not path.is_dir():
        raise DataError(f"data {path}: images come as a folder of PNG files, one sub-folder for each class")
    files = _png_files(path)
    if len(files) < MIN_IMAGES:
        raise DataError(f"data {path}: {len(files)} PNG files are too few to learn from; at least {MIN_IMAGES}")
    classes, labels = _classes(path, files)
    n_levels = n_levels or N_LEVELS
    levels = quantise(_read_all(files), n_levels)
    names = tuple(file.relative_to(path).as_posix() for file in files)
    quantised = f"values of 0 to 255 in {n_levels} levels of equal width" if n_levels < 256 else "none: every value"
    return _split(str(path), classes, n_levels, quantised, Images(levels, labels, names))


def quantise(values: Levels, n_levels: int) -> Levels:
    """Values of 0 to 255 as levels of equal width, 0 to ``n_levels`` - 1."""
    levels: Levels = (values.astype(np.uint16) * n_levels // 256).astype(np.uint8)
    return levels


def to_values(levels: Levels, n_levels: int) -> Levels:
    """Levels as values of 0 (the lowest level) to 255 (the highest), to look at."""
    values: Levels = np.rint(levels.astype(np.float32) * (255 / (n_levels - 1))).astype(np.uint8)
    return values


def _digits(n_levels: int | None) -> ImageCorpus:
    if find_spec("sklearn") is None:
        raise MissingExtraError("the digits come with scikit-learn: pip install 'twobills[images]'")
    if n_levels not in (None, DIGIT_LEVELS):
        raise RequestError(f"levels={n_levels}: the digits have {DIGIT_LEVELS} levels; leave it out")
    found = import_module("sklearn.datasets").load_digits()
    levels = found.images.astype(np.uint8)[..., None]
    names = tuple(f"digit {i}" for i in range(len(levels)))
    images = Images(levels, found.target.astype(np.int64), names)
    return _split("scikit-learn's digits", tuple("0123456789"), DIGIT_LEVELS, "none: the digits have 17", images)


def _split(name: str, classes: tuple[str, ...], n_levels: int, quantised: str, images: Images) -> ImageCorpus:
    held = np.array([_is_heldout(image) for image in images.names])
    split = f"by sha256 of the name, 1 in {HELDOUT_EVERY} held out"
    if held.all() or not held.any():  # a hash can leave a small folder without either side
        held = np.arange(len(held)) % HELDOUT_EVERY == 0
        split = f"every {HELDOUT_EVERY}th held out, too few to go by hash"
    places = np.flatnonzero(held)
    n = min(len(places), max(1, HELDOUT_VALUES // images.levels[0].size))
    if n < len(places):
        split += f", {n} of {len(places)} measured"
    heldout = images.take(places[np.arange(n) * len(places) // n])
    return ImageCorpus(name, classes, n_levels, quantised, images.take(~held), heldout, split)


def _is_heldout(name: str) -> bool:
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest(), "big") % HELDOUT_EVERY == 0


def _png_files(root: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"data {error.filename}: cannot be read ({error.strerror})")

    files: list[Path] = []
    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(folder) / n for n in sorted(names) if n.lower().endswith(".png") and not n.startswith(".")]
    return files


def _classes(root: Path, files: list[Path]) -> tuple[tuple[str, ...], Labels]:
    """Names of the classes, and each file's place among them."""
    parts = [file.relative_to(root).parts for file in files]
    inside = {len(part) > 1 for part in parts}
    if inside == {True, False}:
        stray = next(file for file, part in zip(files, parts, strict=True) if len(part) == 1)
        raise DataError(f"data {stray}: lies beside sub-folders that hold PNGs too; give it a sub-folder, its class")
    if inside == {False}:
        return (ONE_CLASS,), np.zeros(len(files), np.int64)
    classes = sorted({part[0] for part in parts})
    if odd := [name for name in classes if set(name) & set("<>") or name != " ".join(name.split())]:
        raise DataError(f"data {root / odd[0]}: a class may have no <, > or unusual space in its name")
    place = {name: i for i, name in enumerate(classes)}
    return tuple(classes), np.array([place[part[0]] for part in parts], np.int64)


def _read_all(files: list[Path]) -> Levels:
    """Values of 0 to 255 of all images, the first of which says what size and kind they must have."""
    first = _read(files[0])
    if first.size > MOST_VALUES:
        each = f"{first.shape[1]} x {first.shape[0]} pixels of {first.shape[2]} values are {first.size} tokens"
        raise DataError(f"data {files[0]}: {each}; at most {MOST_VALUES} fit an image, so make them smaller")
    if first.size * len(files) > MOST_BYTES:
        raise DataError(f"data {files[0].parent}: more than {MOST_BYTES} values; all of them are kept in memory")
    values = np.empty((len(files), *first.shape), np.uint8)
    for i, file in enumerate(files):
        image = _read(file)
        if image.shape != first.shape:
            raise DataError(f"data {file}: is {_kind(image)}, but {files[0].name} is {_kind(first)}; all must be alike")
        values[i] = image
    return values


def _kind(image: Levels) -> str:
    height, width, n_channels = image.shape
    return f"{width} x {height} {'grey' if n_channels == 1 else 'RGB'}"


def _read(path: Path) -> Levels:
    """One image (height, width, channels). Raises DataError for what is no 8-bit grey or RGB PNG."""
    try:
        with path.open("rb") as file:
            _check_header(path, file.read(33))
        with Image.open(path, formats=("PNG",)) as image:
            if "A" in image.mode or "transparency" in image.info:
                raise DataError(f"data {path}: has transparency; save it without an alpha channel")
            if getattr(image, "n_frames", 1) > 1:
                raise DataError(f"data {path}: holds {image.n_frames} frames; give single images")  # type: ignore[attr-defined]
            values = np.asarray(image.convert(_MODES[image.mode]))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, struct.error) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"data {path}: is not a whole PNG file ({why})") from None
    return values.reshape(*values.shape[:2], -1)


def _check_header(path: Path, header: bytes) -> None:
    """Before anything is unpacked: a PNG of at most 8 bits and a size that can be learnt from."""
    if header[:8] != _SIGNATURE:
        raise DataError(f"data {path}: is not a PNG file, whatever its name says")
    width, height, depth = struct.unpack(">IIB", header[16:25])
    if depth == 16:
        raise DataError(f"data {path}: has 16 bits per value; save it with 8")
    if width * height > MOST_VALUES:
        raise DataError(
            f"data {path}: {width} x {height} pixels are too many; at most {MOST_VALUES} tokens fit an image"
        )
