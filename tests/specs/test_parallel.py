from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import SpecError
from twobills.specs.parallel import ParallelSpec, Recompute, Zero

degrees = st.integers(1, 64)


@given(degrees, degrees, degrees, degrees)
def test_chips_are_the_product_of_the_degrees_but_not_of_experts(dp: int, tp: int, pp: int, cp: int) -> None:
    assert ParallelSpec(dp=dp, tp=tp, pp=pp, cp=cp, ep=dp * cp).n_chips == dp * tp * pp * cp


@pytest.mark.parametrize("field", ["dp", "tp", "pp", "cp", "ep", "interleave", "micro_batch"])
@pytest.mark.parametrize("value", [0, -2])
def test_a_degree_below_one_is_refused_by_name(field: str, value: int) -> None:
    given_degrees: dict[str, Any] = {"dp": 4, field: value}
    with pytest.raises(SpecError, match=f"^{field}={value}: must be at least 1$"):
        ParallelSpec(**given_degrees)


@pytest.mark.parametrize(
    ("given_degrees", "message"),
    [
        ({"dp": 6, "ep": 4}, "ep=4: must divide dp x cp = 6"),
        ({"dp": 2, "cp": 2, "ep": 8}, "ep=8: must divide dp x cp = 4"),
        ({"dp": 6, "shard": 4}, "shard=4: must divide dp x cp = 6"),
        ({"dp": 6, "shard": 0}, "shard=0: must divide dp x cp = 6"),
        ({"dp": 6, "interleave": 2}, "interleave=2: needs pipeline stages, but pp=1"),
    ],
)
def test_what_cannot_be_is_one_line(given_degrees: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        ParallelSpec(**given_degrees)
    assert str(error.value) == message


def test_zeros_stages_are_in_the_papers_order() -> None:
    """Rajbhandari et al. 2020: stage 1 shares out optimiser states, 2 gradients too, 3 parameters too."""
    assert [int(z) for z in (Zero.NOTHING, Zero.OPTIMISER, Zero.GRADIENTS, Zero.PARAMETERS)] == [0, 1, 2, 3]
    assert Recompute.NONE < Recompute.SELECTIVE < Recompute.FULL


def test_a_plan_in_words_leaves_out_what_is_one() -> None:
    assert ParallelSpec(dp=1).describe() == "one chip, micro-batch 1, nothing recomputed"
    wide = ParallelSpec(dp=16, tp=8, pp=4, interleave=2, shard=4, zero=Zero.PARAMETERS, recompute=Recompute.FULL)
    assert wide.describe() == "tp8, pp4, dp16, interleave 2, ZeRO-3 over 4, micro-batch 1, full recomputation"
