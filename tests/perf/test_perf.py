from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import machine
from twobills.counts.operations import Operation
from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.perf.capacity import training_memory
from twobills.perf.datasheet import machine_from_datasheet
from twobills.perf.energy import declared_energy
from twobills.perf.roofline import time_operation
from twobills.perf.step import engine_step, train_step
from twobills.specs import catalog
from twobills.specs.dtype import DType
from twobills.specs.efficiency import OpKind
from twobills.usage import Stamp

MODEL = catalog.model("smollm2-135m")
rates = st.floats(1e9, 1e15)


def step_s(**of_machine: float) -> float:
    return train_step(MODEL, machine(**of_machine), batch_size=2, seq_len=128, dtype=DType.BF16).seconds


@pytest.mark.parametrize(
    ("flops", "n_bytes", "calls", "seconds", "bound"),
    [(4e11, 3e9, 1, 1.0, "compute"), (4e10, 3e10, 1, 1.0, "memory"), (0.0, 0.0, 1e6, 3.0, "calls")],
)
def test_an_operation_takes_as_long_as_what_binds_it(
    flops: float, n_bytes: float, calls: float, seconds: float, bound: str
) -> None:
    op = Operation(name="x", kind=OpKind.MATMUL, flops=flops, bytes=n_bytes, calls=calls)
    timed = time_operation(op, DType.BF16, machine().efficiency)
    assert timed.seconds == pytest.approx(seconds)
    assert timed.bound == bound


@given(rates, rates, st.floats(1.01, 100))
def test_a_faster_machine_is_never_slower(flops: float, bandwidth: float, factor: float) -> None:
    here = step_s(flops=flops, bandwidth=bandwidth)
    assert step_s(flops=flops * factor, bandwidth=bandwidth) <= here
    assert step_s(flops=flops, bandwidth=bandwidth * factor) <= here
    assert step_s(flops=flops, bandwidth=bandwidth, overhead_s=3e-6 / factor) <= here


@given(st.integers(1, 200), st.integers(1, 50_000))
def test_a_decode_step_never_beats_reading_the_layers_once(n_tokens: int, n_attended: int) -> None:
    step = engine_step(
        MODEL,
        machine(),
        n_tokens=n_tokens,
        n_attended=n_attended,
        n_logits=n_tokens,
        n_chunks=1,
        dtype=DType.BF16,
    )
    assert step.seconds >= count_params(MODEL).layer_matmul * 2 / 3e10


def test_a_format_that_was_not_measured_is_refused() -> None:
    with pytest.raises(SpecError, match="dtype=fp8: this machine has no rate for it; it has bf16, fp32"):
        train_step(MODEL, machine(), batch_size=1, seq_len=64, dtype=DType.FP8)


def test_a_data_sheet_becomes_a_machine_and_a_cpu_core_does_not() -> None:
    h100 = machine_from_datasheet(catalog.chip("h100-sxm"))
    rate = h100.efficiency.flops_rate(OpKind.MATMUL, DType.BF16, 1e12)
    assert rate == pytest.approx(0.6 * 989.4e12)
    with pytest.raises(SpecError, match="cpu-core: has no data-sheet rates"):
        machine_from_datasheet(catalog.chip("cpu-core"))


def test_a_run_that_does_not_fit_says_so() -> None:
    rows = {"batch_size": 4096, "seq_len": 2048, "dtype": DType.BF16}
    gpu = replace(machine(), by_hand=False)
    assert not training_memory(MODEL, gpu, **rows).fits  # type: ignore[arg-type]
    assert training_memory(MODEL, gpu, **rows, accumulate=4096).fits  # type: ignore[arg-type]
    assert training_memory(MODEL, machine(), **rows).fits, "by hand the batch goes through in small parts"  # type: ignore[arg-type]
    assert not training_memory(MODEL, replace(machine(), memory_bytes=1e8), **rows).fits  # type: ignore[arg-type]


def test_forecast_joules_are_declared() -> None:
    energy = declared_energy(machine(), 10.0)
    assert energy.total_j == 40.0
    assert energy.stamp is Stamp.DECLARED
