"""Reading images: the digits and folders of PNGs, and one clear line for each thing that is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twobills.errors import DataError, MissingExtraError, RequestError, TwobillsError
from twobills.jobs.data import images as module
from twobills.jobs.data.images import ONE_CLASS, quantise, read_images, to_values


def write_png(path: Path, *, size: tuple[int, int] = (6, 4), mode: str = "L", seed: int = 0) -> Path:
    """A picture of noise, (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n_channels = {"L": 1, "RGB": 3, "RGBA": 4, "LA": 2}[mode]
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], n_channels), dtype=np.uint8)
    Image.fromarray(values.squeeze(-1) if n_channels == 1 else values, mode).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of ten grey images each."""
    for i in range(20):
        write_png(tmp_path / "pictures" / ("cat", "dog")[i % 2] / f"{i:02}.png", seed=i)
    return tmp_path / "pictures"


def test_the_digits() -> None:
    pytest.importorskip("sklearn")
    corpus = read_images(None)
    labels = np.concatenate((corpus.training.labels, corpus.heldout.labels))
    assert len(labels) == 1797  # the data set's own description
    assert corpus.shape == (8, 8, 1)
    assert corpus.classes == tuple("0123456789")
    assert corpus.training.levels.max() == 16
    assert sorted(np.bincount(labels)) == [174, 177, 178, 179, 180, 181, 181, 182, 182, 183]  # likewise, by class
    assert not set(corpus.training.names) & set(corpus.heldout.names)
    assert 0.15 < len(corpus.heldout.labels) / 1797 < 0.25


def test_digits_without_scikit_learn_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"twobills\[images\]"):
        read_images(None)


def test_a_folder_of_classes(folder: Path) -> None:
    corpus = read_images(folder)
    assert corpus.classes == ("cat", "dog")
    assert corpus.shape == (4, 6, 1)
    assert len(corpus.training.names) + len(corpus.heldout.names) == 20
    for images in (corpus.training, corpus.heldout):
        for levels, label, name in zip(images.levels, images.labels, images.names, strict=True):
            assert corpus.classes[label] == name.split("/")[0]
            stored = np.asarray(Image.open(folder / name))
            np.testing.assert_array_equal(levels[..., 0], stored // 16)


def test_256_levels_lose_nothing(folder: Path) -> None:
    images = read_images(folder, 256).training
    np.testing.assert_array_equal(images.levels[0][..., 0], np.asarray(Image.open(folder / images.names[0])))


def test_colour_deeper_folders_and_other_files(tmp_path: Path) -> None:
    for i in range(10):
        write_png(tmp_path / "red" / f"part{i % 3}" / f"{i}.PNG", mode="RGB", seed=i)
    (tmp_path / "red" / "notes.txt").write_text("not a picture")
    write_png(tmp_path / ".hidden" / "1.png", mode="RGB")
    corpus = read_images(tmp_path)
    assert corpus.classes == ("red",)
    assert corpus.shape == (4, 6, 3)
    assert len(corpus.training.names) + len(corpus.heldout.names) == 10


def test_images_in_no_sub_folder_are_of_one_class(tmp_path: Path) -> None:
    for i in range(10):
        write_png(tmp_path / f"{i}.png", seed=i)
    corpus = read_images(tmp_path)
    assert corpus.classes == (ONE_CLASS,)
    assert set(corpus.training.labels) == {0}


def test_every_split_has_two_sides(tmp_path: Path) -> None:
    """Names whose hashes all fall on one side."""
    for i in (i for i in range(200) if not module._is_heldout(f"{i}.png")):
        write_png(tmp_path / f"{i}.png", size=(2, 2))
    corpus = read_images(tmp_path)
    assert len(corpus.heldout.names) == pytest.approx(len(corpus.training.names) / 4, abs=1)
    assert corpus.split.startswith("every 5th")


def test_of_many_held_out_images_some_are_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_images(folder)
    monkeypatch.setattr(module, "HELDOUT_VALUES", 2 * 24)
    some = read_images(folder)
    assert some.training.names == whole.training.names
    assert len(some.heldout.names) == 2 < len(whole.heldout.names)
    assert set(some.heldout.names) < set(whole.heldout.names)
    assert some.split == f"{whole.split}, 2 of {len(whole.heldout.names)} measured"


def test_palettes_and_single_bits_are_read(tmp_path: Path) -> None:
    for i in range(10):
        values = np.random.default_rng(i).integers(0, 2, (4, 4), dtype=np.uint8) * 255
        Image.fromarray(values).convert("1").save(tmp_path / f"{i}.png")
    assert set(np.unique(read_images(tmp_path, 2).training.levels)) == {0, 1}
    for i in range(10):
        Image.fromarray(np.full((4, 4, 3), 10 * i, np.uint8)).convert("P").save(tmp_path / f"{i}.png")
    assert read_images(tmp_path).shape == (4, 4, 3)


def test_levels_go_back_to_the_ends_of_the_range() -> None:
    values = np.arange(256, dtype=np.uint8)
    for n_levels in (2, 16, 17, 256):
        levels = quantise(values, n_levels)
        assert (levels[0], levels[-1]) == (0, n_levels - 1)
        assert np.bincount(levels).max() - np.bincount(levels).min() <= 1
        again = to_values(levels, n_levels)
        assert (again[0], again[-1]) == (0, 255)
        assert np.abs(again.astype(int) - values).max() <= 256 / n_levels


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def text_instead(path: Path) -> None:
    path.write_text("this is a letter to somebody, and it is long enough for a header")


def sixteen_bits(path: Path) -> None:
    Image.fromarray(np.arange(24, dtype=np.uint16).reshape(4, 6) * 1000).save(path)


def sixteen_bit_colour(path: Path) -> None:
    """A PNG whose header says 16 bits, as Pillow reads but does not write them."""
    content = bytearray(path.read_bytes())
    content[24:26] = bytes((16, 2))
    path.write_bytes(content)


def transparent_palette(path: Path) -> None:
    Image.fromarray(np.zeros((4, 6), np.uint8)).convert("P").save(path, transparency=0)


def two_frames(path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 6), value, np.uint8)) for value in (0, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (truncate, "is not a whole PNG file"),
        (lambda path: path.write_bytes(b""), "is not a PNG file"),
        (text_instead, "is not a PNG file"),
        (sixteen_bits, "has 16 bits per value; save it with 8"),
        (sixteen_bit_colour, "has 16 bits per value; save it with 8"),
        (transparent_palette, "has transparency"),
        (two_frames, "holds 2 frames"),
        (lambda path: write_png(path, mode="RGBA"), "has transparency; save it without an alpha channel"),
        (lambda path: write_png(path, mode="LA"), "has transparency"),
        (lambda path: write_png(path, size=(6, 5)), "is 6 x 5 grey, but 00.png is 6 x 4 grey; all must be alike"),
        (lambda path: write_png(path, mode="RGB"), "is 6 x 4 RGB, but 00.png is 6 x 4 grey"),
        (lambda path: write_png(path, size=(100, 100)), "100 x 100 pixels are too many"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(folder: Path, damage: Callable[[Path], object], complaint: str) -> None:
    bad = folder / "dog" / "13.png"
    damage(bad)
    with pytest.raises(DataError) as raised:
        read_images(folder)
    message = str(raised.value)
    assert str(bad) in message
    assert complaint in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("make", "n_levels", "kind", "complaint"),
    [
        (lambda _: None, None, DataError, "images come as a folder of PNG files"),
        (lambda path: write_png(path / "a.png"), None, DataError, "1 PNG files are too few"),
        (lambda path: write_png(path / "a.png"), 1, RequestError, "levels=1: must be between 2 and 256"),
        (lambda path: write_png(path / "a.png"), 257, RequestError, "levels=257"),
    ],
)
def test_a_wrong_request_is_one_line(
    tmp_path: Path,
    make: Callable[[Path], object],
    n_levels: int | None,
    kind: type[TwobillsError],
    complaint: str,
) -> None:
    make(tmp_path / "here")
    with pytest.raises(kind, match=complaint):
        read_images(tmp_path / "here", n_levels)


def test_a_stray_image_beside_classes_is_refused(folder: Path) -> None:
    stray = write_png(folder / "stray.png")
    with pytest.raises(DataError, match="lies beside sub-folders") as raised:
        read_images(folder)
    assert str(stray) in str(raised.value)


def test_a_class_name_must_fit_into_a_token(folder: Path) -> None:
    (folder / "dog").rename(folder / "d<o>g")
    with pytest.raises(DataError, match="may have no <, > or unusual space"):
        read_images(folder)


def test_an_image_larger_than_a_context_is_refused(tmp_path: Path) -> None:
    for i in range(10):
        write_png(tmp_path / f"{i}.png", size=(40, 40), mode="RGB")
    with pytest.raises(DataError, match="40 x 40 pixels of 3 values are 4800 tokens; at most 4094"):
        read_images(tmp_path)
