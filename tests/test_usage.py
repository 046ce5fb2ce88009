from __future__ import annotations

import pytest
from hypothesis import given

from tests.strategies import energies, usages
from twobills.errors import UsageError
from twobills.usage import Energy, Job, Origin, Phase, PhaseUsage, Stamp, Usage


@given(usages(Job.TRAINING), usages(Job.TRAINING))
def test_usages_add_phase_by_phase(a: Usage, b: Usage) -> None:
    both = a + b
    assert both.total.chip_s == pytest.approx(a.total.chip_s + b.total.chip_s)
    assert both.total.energy.total_j == pytest.approx(a.total.energy.total_j + b.total.energy.total_j)
    assert set(both.phases) == set(a.phases) | set(b.phases)


@given(usages(Job.INFERENCE))
def test_a_usage_survives_json(usage: Usage) -> None:
    assert Usage.from_json(usage.to_json()) == usage


@given(energies, energies)
def test_joules_keep_their_stamps_apart(a: Energy, b: Energy) -> None:
    both = a + b
    for stamp in Stamp:
        key = f"{stamp.value}_j"
        assert getattr(both, key) == getattr(a, key) + getattr(b, key)


def test_a_sum_is_stamped_by_its_weakest_part() -> None:
    assert (Energy.of(1, Stamp.MEASURED) + Energy.of(1, Stamp.DECLARED)).stamp is Stamp.DECLARED
    assert Energy.of(1, Stamp.MEASURED).stamp is Stamp.MEASURED
    assert Energy().stamp is None


def test_unlike_usages_do_not_add() -> None:
    measured = Usage(job=Job.TRAINING, origin=Origin.MEASURED)
    with pytest.raises(UsageError, match="do not add"):
        measured + Usage(job=Job.TRAINING, origin=Origin.PREDICTED)
    with pytest.raises(UsageError, match="do not add"):
        measured + Usage(job=Job.INFERENCE, origin=Origin.MEASURED)


def test_a_phase_belongs_to_its_job() -> None:
    with pytest.raises(UsageError, match="not a phase of training"):
        Usage(job=Job.TRAINING, origin=Origin.MEASURED, phases={Phase.DECODE: PhaseUsage()})
