from __future__ import annotations

from dataclasses import replace

from tests.runs import CHIP
from tests.served import load_of, served
from twobills.plan.serving_chip import serving_chip
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType


def test_a_chip_that_has_a_16_bit_peak_stays_as_it_is() -> None:
    assert serving_chip(CHIP) == (CHIP, ())


def test_half_an_8_bit_peak_and_a_quarter_of_a_4_bit_one() -> None:
    for dtype, factor in ((DType.FP8, 2), (DType.INT8, 2), (DType.FP4, 4)):
        found = serving_chip(replace(CHIP, peak_flops_per_s={dtype: 4e15}))
        assert found.chip.peak_flops_per_s[DType.BF16] == 4e15 / factor
        assert "not published" in found.assumed[0]


def test_sram_multiplies_what_it_reads() -> None:
    """A 16-bit weight is two bytes and one multiply-add two FLOPs: as many FLOP/s as bytes/s."""
    wafer = replace(CHIP, name="wafer", peak_flops_per_s={}, memory_kind="SRAM", memory_bytes_per_s=2e16)
    found = serving_chip(wafer)
    assert found.chip.peak_flops_per_s[DType.BF16] == 2e16
    plan = served(load_of(concurrency=1), cluster=ClusterSpec(chip=found.chip, n_chips=1))
    assert plan.figures.tpot_s.value < served(load_of(concurrency=1)).figures.tpot_s.value


def test_nothing_is_made_up_for_other_chips() -> None:
    bare = replace(CHIP, peak_flops_per_s={})
    assert serving_chip(bare) == (bare, ())
