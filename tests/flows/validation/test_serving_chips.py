"""The chip column of serving rows: every kind in the measured tables, and what is refused."""

from __future__ import annotations

import pytest

from tests import shared_data
from twobills.errors import CatalogError
from twobills.flows.validation.serving_chips import serving_chip
from twobills.specs import catalog
from twobills.units import GIBI

SEVERAL = {"MI325X+MI300X mix"}


@shared_data.needs_shared_data
@pytest.mark.parametrize("table", ["inference_measured.csv", "inference_more.csv"])
def test_every_chip_of_the_measured_rows_is_known(table: str) -> None:
    for text in {row["chip"] for row in shared_data.rows(table)} - SEVERAL:
        chip = serving_chip(text).chip
        assert chip.memory_bytes, text
        assert chip.memory_bytes_per_s, text


@shared_data.needs_shared_data
@pytest.mark.parametrize("table", ["inference_measured.csv", "inference_more.csv"])
def test_every_model_of_the_measured_rows_is_known(table: str) -> None:
    for name in {row["model"] for row in shared_data.rows(table)}:
        assert catalog.model(name).n_layers, name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("H100 SXM 80GB", "h100-sxm"),
        ("A100 PCIe 80GB", "a100-pcie-80gb"),
        ("A100 PCIe 40GB", "a100-pcie-40gb"),
        ("B200 SXM 180GB", "b200"),
        ("GH200 96GB", "gh200-96gb"),
        ("GH200 144GB", "gh200"),
        ("GB10 (DGX Spark)", "gb10"),
        ("GB300 (NVL72)", "gb300"),
        ("MI250X (1 GCD)", "mi250x-gcd"),
        ("RTX 3080 10GB", "rtx-3080-10gb"),
        ("Wormhole (T3000 QuietBox, 8 chips)", "wormhole-n300-asic"),
        ("Apple M2 Ultra 76-core GPU 192GB", "apple-m2-ultra"),
        ("RTX 6000 Ada 48GB", "rtx-6000-ada"),
    ],
)
def test_a_row_names_one_kind_of_chip(text: str, name: str) -> None:
    served = serving_chip(text)
    assert (served.chip, served.assumed) == (catalog.chip(name), "")


def test_a_power_cap_is_the_chips_power() -> None:
    capped, free = serving_chip("A100 SXM 80GB (330W cap)").chip, catalog.chip("a100")
    assert (capped.watts, free.watts) == (330, 400)
    assert capped.peak_flops_per_s == free.peak_flops_per_s


@pytest.mark.parametrize(("text", "name"), [("A100", "a100-sxm-40gb"), ("H100", "h100-sxm")])
def test_a_variant_that_is_not_stated_is_said_so(text: str, name: str) -> None:
    served = serving_chip(f"{text} (variant not stated)")
    assert served.chip.name == name
    assert served.assumed == f"variant not stated: taken as {name}"


def test_apples_memory_is_the_rows() -> None:
    assert serving_chip("Apple M1 7-core GPU 8GB").chip.memory_bytes == 8 * GIBI
    assert serving_chip("Apple M3 Max 40-core GPU 64GB").chip.memory_bytes == 64 * GIBI


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MI325X+MI300X mix", "is more than one kind of chip"),
        ("RTX 3080 12GB", "rtx-3080-10gb has 10 GB; name the part that has 12 GB"),
        ("H100 SXM 96GB", "h100-sxm has 80 GB; name the part that has 96 GB"),
        ("Apple M1 7-core GPU 64GB", "apple-m1-7-core has 16 GB"),
        ("Cray-1", "chip 'Cray-1': not in the catalogue"),
        ("", "chip '': not in the catalogue"),
    ],
)
def test_what_is_no_chip_is_one_line(text: str, message: str) -> None:
    with pytest.raises(CatalogError, match=message) as caught:
        serving_chip(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "whole", "n_parts"),
    [("mi250x-gcd", "mi250x", 2), ("arc-pro-b60", "arc-pro-b60-dual", 2), ("wormhole-n300-asic", "wormhole-n300", 2)],
)
def test_parts_add_up_to_the_card(part: str, whole: str, n_parts: int) -> None:
    one, all_ = catalog.chip(part), catalog.chip(whole)
    for name in ("watts", "memory_bytes", "memory_bytes_per_s"):
        assert n_parts * one.figures()[name] == pytest.approx(all_.figures()[name], rel=0.01), name
    for dtype, peak in one.peak_flops_per_s.items():
        assert n_parts * peak == pytest.approx(all_.peak_flops_per_s[dtype], rel=0.01), dtype


@pytest.mark.parametrize(
    ("name", "tflops", "tops"),
    [
        ("a40", 149.7, 299.3),
        ("rtx-a6000", 154.8, 309.7),
        ("rtx-4000-ada", 106.9, 213.8),
        ("rtx-5000-ada", 261.1, 522.2),
    ],
)
def test_derived_tensor_peaks_are_the_printed_ones(name: str, tflops: float, tops: float) -> None:
    """Dense rates of the makers' sheets, where they were read beside the rule that other rows derive them by."""
    peaks = catalog.chip(name).figures()
    assert peaks["peak_bf16_flops_per_s"] == pytest.approx(tflops * 1e12, rel=0.005)
    assert peaks["peak_int8_flops_per_s"] == pytest.approx(tops * 1e12, rel=0.005)
