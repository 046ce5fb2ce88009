"""Kumar et al. 2024 by what its form implies: the constants are recalled, so no number of theirs is a bar."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import SpecError
from twobills.laws.forms import loss
from twobills.laws.isoloss import tokens_needed
from twobills.laws.precision import (
    PrecisionLaw,
    effective_params,
    quantisation_loss,
    quantised_loss,
    tokens_when_quantised,
)
from twobills.laws.published import published

found = published("kumar-2024").law
assert isinstance(found, PrecisionLaw)
LAW: PrecisionLaw = found


@given(st.floats(1e7, 1e10), st.floats(1e9, 1e13), st.floats(2, 12))
def test_quantising_hurts_more_with_more_data_and_less_with_more_size_or_bits(n: float, d: float, bits: float) -> None:
    cost = quantisation_loss(LAW, n, d, bits)
    assert quantisation_loss(LAW, n, 2 * d, bits) > cost
    assert quantisation_loss(LAW, 2 * n, d, bits) < cost
    assert quantisation_loss(LAW, n, d, bits + 1) < cost


def test_endless_bits_leave_all_parameters() -> None:
    many = effective_params(LAW, 1e9, weight_bits=64, activation_bits=64, kv_bits=64)
    few = effective_params(LAW, 1e9, weight_bits=4, activation_bits=16, kv_bits=16)
    assert many == pytest.approx(1e9)
    assert few < 0.9e9


def test_there_is_data_beyond_which_more_makes_a_quantised_model_worse() -> None:
    losses = [quantised_loss(LAW, 1e8, n_tokens, 5) for n_tokens in (1e8, 1e10, 1e16)]
    assert losses[1] < losses[0]
    assert losses[2] > losses[1]


def test_no_bits_are_refused() -> None:
    with pytest.raises(SpecError, match="bits=0: must be above 0"):
        quantised_loss(LAW, 1e9, 1e10, 0)


def test_more_data_makes_up_for_fewer_bits_until_it_does_not() -> None:
    sizes, target = np.array([7e9, 40e9]), 2.1
    eight = tokens_when_quantised(LAW, LAW.law, sizes * 1e3, 2.8, 8.0)
    assert np.all(eight >= tokens_needed(LAW.law, sizes * 1e3, 2.8))
    of = LAW.law
    for bits in (8.0, 5.0):
        needed = tokens_when_quantised(LAW, of, sizes, 3.0, bits)
        for n_params, n_tokens in zip(sizes, needed, strict=True):
            assert loss(of, n_params, n_tokens) + quantisation_loss(LAW, n_params, n_tokens, bits) == pytest.approx(3.0)
    assert np.isinf(tokens_when_quantised(LAW, of, sizes, target, 8.0)).all()  # below the law's irreducible loss
    assert np.isinf(tokens_when_quantised(LAW, of, sizes, 2.8, 1.0)).all()
