from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import SpecError
from twobills.specs import catalog
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType

H100, A100 = replace(catalog.chip("h100-sxm"), unverified=()), catalog.chip("a100-sxm-80gb")


@given(st.integers(1, 20_000))
def test_a_fast_domain_is_a_server_or_all_chips_if_they_are_fewer(n_chips: int) -> None:
    assert ClusterSpec(chip=H100, n_chips=n_chips).n_fast == min(8, n_chips)


def test_a_chip_without_fast_links_is_a_domain_of_its_own() -> None:
    lonely = replace(H100, scaleup_chips=None, scaleup_bytes_per_s=None)
    assert ClusterSpec(chip=lonely, n_chips=64).n_fast == 1


def test_both_16_bit_formats_train_at_the_same_peak() -> None:
    """NVIDIA's data sheets: A100 312, H100 SXM 989 dense TFLOP/s in either 16-bit format."""
    for chip, peak in ((A100, 312e12), (H100, 989e12)):
        cluster = ClusterSpec(chip=chip, n_chips=8)
        assert cluster.peak(DType.BF16) == cluster.peak(DType.FP16) == pytest.approx(peak, rel=1e-3)
    half_only = replace(H100, peak_flops_per_s={DType.FP16: 125e12})
    assert ClusterSpec(chip=half_only, n_chips=8).peak(DType.BF16) == 125e12


def test_memory_is_what_systems_offer_where_that_is_known() -> None:
    printed = replace(H100, memory_bytes=80e9, usable_memory_bytes=None)
    assert ClusterSpec(chip=printed, n_chips=1).memory_bytes == 80e9
    assert ClusterSpec(chip=replace(printed, usable_memory_bytes=79e9), n_chips=1).memory_bytes == 79e9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_chips": 0}, "n_chips=0: must be at least 1"),
        ({"scaleout_bytes_per_s": -1.0}, "scaleout_bytes_per_s=-1.0: must be above 0"),
    ],
)
def test_a_cluster_that_cannot_be_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        replace(ClusterSpec(chip=H100, n_chips=8), **changes)
    assert str(error.value) == message


@pytest.mark.parametrize("field", ["memory_bytes", "memory_bytes_per_s"])
def test_a_chip_that_lacks_a_figure_is_refused_by_name(field: str) -> None:
    lacking: dict[str, Any] = {field: None}
    unknown = replace(H100, usable_memory_bytes=None, **lacking)
    with pytest.raises(SpecError, match=f"^chip h100-sxm: {field} is not known"):
        ClusterSpec(chip=unknown, n_chips=8)


def test_a_chip_without_16_bits_cannot_train() -> None:
    eight_bits = replace(H100, peak_flops_per_s={DType.FP8: 1979e12})
    with pytest.raises(SpecError, match=r"^chip h100-sxm: has no 16-bit format"):
        ClusterSpec(chip=eight_bits, n_chips=8)


def test_a_format_that_a_chip_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(SpecError, match=r"^dtype=fp8: chip a100-sxm-80gb has no peak in that format; it has .*bf16"):
        ClusterSpec(chip=A100, n_chips=8).peak(DType.FP8)
