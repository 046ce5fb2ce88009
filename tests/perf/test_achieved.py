from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.sharded import CALIBRATION
from twobills.perf.achieved import Achieved, achieved, table
from twobills.specs import catalog
from twobills.specs.calibration import published_calibration
from twobills.specs.cluster import ClusterSpec
from twobills.specs.dtype import DType
from twobills.specs.hardware import ChipSpec
from twobills.specs.parallel import Stack

H100, A100 = replace(catalog.chip("h100-sxm"), unverified=()), catalog.chip("a100-sxm-80gb")


def rates(
    chip: ChipSpec = H100, stack: Stack = Stack.FUSED, *, n_chips: int = 64, network: float | None = None
) -> Achieved:
    return achieved(ClusterSpec(chip=chip, n_chips=n_chips, scaleout_bytes_per_s=network), stack, CALIBRATION)


def test_rates_are_the_data_sheets_times_the_calibrations_fractions() -> None:
    found = rates()
    assert H100.memory_bytes_per_s is not None
    assert found.peak_flops_per_s == H100.peak_flops_per_s[DType.BF16]
    assert found.product_flops_per_s == pytest.approx(0.8 * found.peak_flops_per_s)
    assert found.fp8_flops_per_s == pytest.approx(0.8 * H100.peak_flops_per_s[DType.FP8])
    assert found.bytes_per_s == pytest.approx(0.8 * H100.memory_bytes_per_s)
    assert found.half_rate_flops == pytest.approx(found.peak_flops_per_s * 1e-6)


def test_half_of_the_rate_is_reached_by_the_product_that_the_calibration_says() -> None:
    """By the definition of half_rate_s: so many FLOPs take twice as long as at the large product's rate."""
    found = rates()
    seconds = (found.half_rate_flops + found.half_rate_flops) / found.product_flops_per_s
    assert found.half_rate_flops / seconds == pytest.approx(found.product_flops_per_s / 2)


def test_the_network_is_the_users_where_he_says_so() -> None:
    assert H100.scaleup_bytes_per_s is not None
    assert rates().fast_bytes_per_s == pytest.approx(0.75 * H100.scaleup_bytes_per_s)
    assert rates(network=12.5e9).slow_bytes_per_s == pytest.approx(0.7 * 12.5e9)
    assert rates(network=12.5e9).fast_bytes_per_s == rates().fast_bytes_per_s
    assert (rates().n_fast, rates(n_chips=4).n_fast) == (8, 4)


@pytest.mark.parametrize(
    ("fast", "slow", "expected"),
    [(None, 5e10, (5e10, 5e10)), (4e11, None, (4e11, 4e11)), (None, None, (math.inf, math.inf))],
)
def test_a_link_that_is_not_known_is_as_fast_as_the_one_that_is(
    fast: float | None, slow: float | None, expected: tuple[float, float]
) -> None:
    found = rates(replace(H100, scaleup_bytes_per_s=fast, scaleout_bytes_per_s=slow))
    assert found.fast_bytes_per_s == pytest.approx(expected[0] * 0.75)
    assert found.slow_bytes_per_s == pytest.approx(expected[1] * 0.7)


def test_software_decides_what_is_hidden_and_fused() -> None:
    by_stack = {stack: rates(stack=stack) for stack in Stack}
    assert {stack: r.tensor_overlap for stack, r in by_stack.items()} == {
        stack: 0.5 if stack is Stack.OVERLAPPED else 0.0 for stack in Stack
    }
    assert by_stack[Stack.EAGER].passes == 2.0
    assert {r.passes for stack, r in by_stack.items() if stack is not Stack.EAGER} == {1.2}
    assert [stack for stack, r in by_stack.items() if r.square] == [Stack.EARLY]


def test_attention_is_faster_in_the_vendors_kernel_of_newer_families_only() -> None:
    """Dao 2023 (FlashAttention-2) is near the best on Ampere; Hopper needed kernels of its own (Shah et al. 2024)."""
    for chip, tuned in ((H100, True), (A100, False)):
        eager, compiled, fused = (
            rates(chip, stack).attention_flops_per_s for stack in (Stack.EAGER, Stack.COMPILED, Stack.FUSED)
        )
        assert (eager < compiled < fused) if tuned else (eager == compiled == fused)


def test_a_chip_with_less_power_for_its_peak_is_slower_by_the_root_and_one_with_more_gains_a_tenth() -> None:
    cool, usual, hot = (rates(replace(H100, watts=watts)) for watts in (175.0, 700.0, 1000.0))
    assert cool.product_flops_per_s == pytest.approx(usual.product_flops_per_s / 2)
    assert cool.attention_flops_per_s == pytest.approx(usual.attention_flops_per_s / 2)
    assert hot.product_flops_per_s == pytest.approx(1.1 * usual.product_flops_per_s)
    assert cool.bytes_per_s == usual.bytes_per_s
    unknown = rates(replace(H100, watts=None))
    assert unknown.product_flops_per_s == usual.product_flops_per_s


def test_a_family_that_was_not_fitted_gets_the_mean_and_the_wider_interval() -> None:
    two = replace(CALIBRATION, matmul_frac={"hopper": 0.8, "ampere": 0.6})
    other = achieved(ClusterSpec(chip=replace(H100, family="a new one"), n_chips=8), Stack.FUSED, two)
    assert other.product_flops_per_s == pytest.approx(0.7 * other.peak_flops_per_s)
    assert (other.log_sigma, rates().log_sigma) == (0.3, 0.1)


def test_no_chip_achieves_more_than_its_data_sheet_under_any_software() -> None:
    published = published_calibration()
    for chip in catalog.chips().values():
        if chip.memory_bytes is None or chip.memory_bytes_per_s is None:
            continue
        if not {DType.BF16, DType.FP16} & set(chip.peak_flops_per_s):
            continue
        for stack in Stack:
            found = achieved(ClusterSpec(chip=chip, n_chips=64), stack, published)
            assert found.product_flops_per_s <= found.peak_flops_per_s
            assert found.attention_flops_per_s <= found.peak_flops_per_s
            assert found.bytes_per_s <= chip.memory_bytes_per_s


def test_a_table_of_clusters_has_a_column_for_each_rate() -> None:
    rows = [rates(), rates(A100), rates(n_chips=4)]
    columns = table(rows)
    for name in Achieved._fields:
        if name != "square":
            assert np.array_equal(getattr(columns, name), [getattr(row, name) for row in rows])
