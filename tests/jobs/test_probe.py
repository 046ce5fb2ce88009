from __future__ import annotations

from dataclasses import replace

from tests.machines import machine
from twobills.jobs.probe import fastest_dtype
from twobills.specs.dtype import DType
from twobills.specs.efficiency import Curve, Efficiency, OpKind


def measured(**rates: tuple[float, ...]) -> Efficiency:
    """Rates of products of growing size, by format."""
    curves: dict[str, Curve] = {name: tuple(enumerate(of, start=1)) for name, of in rates.items()}
    products = {DType(name): {OpKind.MATMUL: curve, OpKind.ATTENTION: curve} for name, curve in curves.items()}
    return replace(machine().efficiency, flops_per_s=products)


def test_the_faster_format_is_that_of_large_products() -> None:
    assert fastest_dtype(measured(bf16=(1, 1, 4, 4), fp32=(2, 2, 2, 2))) is DType.BF16
    assert fastest_dtype(measured(bf16=(9, 9, 1, 1), fp32=(2, 2, 2, 2))) is DType.FP32


def test_one_starved_timing_does_not_change_the_format() -> None:
    """Formats differ fourfold; another process took nine tenths of one timing."""
    for starved in range(6):
        bf16 = tuple(0.4 if i == starved else 4.0 for i in range(6))
        assert fastest_dtype(measured(bf16=bf16, fp32=(1,) * 6)) is DType.BF16
