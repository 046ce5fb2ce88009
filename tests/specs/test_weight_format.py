"""Formats of weights: bits against what their makers publish, every spelling of the measured rows, one-line errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import shared_data
from twobills.errors import SpecError
from twobills.specs.dtype import DType
from twobills.specs.weight_format import FORMATS, WeightFormat


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
def test_every_format_is_found_by_its_name(fmt: WeightFormat) -> None:
    assert WeightFormat.parse(fmt.name) is fmt
    assert WeightFormat.parse(f" {fmt.name.upper().replace('_', '-')} (a note)") is fmt
    assert fmt.bytes_per_weight == fmt.bits_per_weight / 8


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # llama.cpp, tools/quantize/README.md: Llama 3.1 8B, then Llama 2 7B, 13B and 70B of its earlier edition
        ("q4_k_m", [4.8944, 4.84, 4.83, 4.80]),
        ("q4_k_s", [4.6672, 4.58, 4.56, 4.53]),
        ("q5_k_m", [5.7036, 5.68, 5.67, 5.65]),
        ("q6_k", [6.5633, 6.56, 6.56, 6.56]),
        ("q8_0", [8.5008]),
    ],
)
def test_llama_cpps_averages_are_those_it_publishes(name: str, published: list[float]) -> None:
    assert FORMATS[name].bits_per_weight == pytest.approx(sum(published) / len(published), rel=0.01)
    assert all(FORMATS[name].bits_per_weight == pytest.approx(bits, rel=0.02) for bits in published)


def test_a_70b_file_of_q4_k_m_has_its_published_size() -> None:
    """Llama 3.1 70B (70,553,706,496 weights) is 43.1 GB (10^9 or 2^30 is not said) in llama.cpp's table."""
    assert 70_553_706_496 * FORMATS["q4_k_m"].bytes_per_weight / 1e9 == pytest.approx(43.1, rel=0.02)


@pytest.mark.parametrize("group", [32, 64, 128])
def test_larger_groups_have_fewer_scales(group: int) -> None:
    grouped = FORMATS[f"int4_g{group}"].bits_per_weight
    assert 4 < grouped <= 5
    assert all(FORMATS[f"int4_g{more}"].bits_per_weight < grouped for more in (64, 128) if more > group)


def test_the_scales_of_fp4_are_counted() -> None:
    """16 numbers and a byte are 9 bytes; 32 numbers and a byte are 17."""
    assert 16 * FORMATS["nvfp4"].bytes_per_weight == 9
    assert 32 * FORMATS["mxfp4"].bytes_per_weight == 17


def test_weight_only_formats_multiply_in_16_bits() -> None:
    for name in ("w8a16", "int4_g32", "int4_g64", "int4_g128"):
        assert FORMATS[name].compute.bytes == 2
    assert {FORMATS[name].compute for name in ("nvfp4", "mxfp4")} == {DType.FP4}
    assert FORMATS["w8a8"].compute is DType.INT8


@given(st.integers(10, 320))
def test_exl2_has_the_bits_it_says(tenths: int) -> None:
    for text in (f"exl2 {tenths / 10} bpw", f"EXL2-{tenths / 10}"):
        assert WeightFormat.parse(text).bits_per_weight == pytest.approx(tenths / 10)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("16-bit", "bf16"),
        ("fp16 (matmult bf16)", "fp16"),
        ("int8", "w8a16"),
        ("int4 (g32)", "int4_g32"),
        ("gptq 4-bit (g128; LLaMA v1)", "int4_g128"),
        ("AWQ", "int4_g128"),
        ("uint4", "int4_g128"),
        ("4-bit", "int4_g128"),
        ("fp4", "nvfp4"),
    ],
)
def test_spellings(text: str, name: str) -> None:
    assert WeightFormat.parse(text).name == name


@pytest.mark.parametrize("text", ["", "fp7", "int4 (g7)", "exl2", "q4"])
def test_an_unknown_format_is_one_line_that_lists_the_known(text: str) -> None:
    with pytest.raises(SpecError, match=r"unknown; one of fp32, bf16, fp16, fp8.*q4_k_m.*exl2") as caught:
        WeightFormat.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["exl2 0.5 bpw", "exl2 64"])
def test_bits_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"bits_per_weight=.*: must be from 1 to 32"):
        WeightFormat.parse(text)


@shared_data.needs_shared_data
@pytest.mark.parametrize("table", ["inference_measured.csv", "inference_more.csv"])
@pytest.mark.parametrize("column", ["precision_weights", "precision_kv"])
def test_every_format_of_the_measured_rows_is_known(table: str, column: str) -> None:
    for text in {row[column] for row in shared_data.rows(table)} - {""}:
        assert 2 <= WeightFormat.parse(text).bits_per_weight <= 16, text
