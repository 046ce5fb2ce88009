"""Hypothesis strategies for usages, rates and bills."""

from __future__ import annotations

from hypothesis import strategies as st

from twobills.money.rates import Rates
from twobills.usage import PHASES, Energy, Job, Origin, PhaseUsage, Usage

amounts = st.one_of(st.just(0.0), st.floats(min_value=1e-3, max_value=1e12))
energies = st.builds(Energy, measured_j=amounts, estimated_j=amounts, declared_j=amounts)
phase_usages = st.builds(PhaseUsage, tokens=amounts, flops=amounts, bytes=amounts, chip_s=amounts, energy=energies)
rates = st.builds(
    Rates,
    usd_per_chip_s=st.floats(0, 1e3),
    usd_per_j=st.floats(0, 1),
    source=st.just("a test"),
    as_of=st.just("2026-01-01"),
    assumed=st.booleans(),
)


def usages(job: Job, origin: Origin = Origin.MEASURED) -> st.SearchStrategy[Usage]:
    """Usages of one job and origin."""
    phases = st.dictionaries(st.sampled_from(PHASES[job]), phase_usages)
    return st.builds(Usage, job=st.just(job), origin=st.just(origin), phases=phases)
