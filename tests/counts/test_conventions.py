"""Conventions of counting training FLOPs, against totals that others published."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.counts.conventions import convention_flops_per_token, train_flops, train_flops_of_params
from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.specs import catalog
from twobills.specs.flop_totals import FlopConvention, FlopTotal, flop_totals
from twobills.specs.model import ModelSpec

MODELS = catalog.models()
TOTALS = flop_totals()
PALM_CHIPS, PALM_PEAK_FLOPS_PER_S, PALM_TOKENS_PER_S = 6144, 275e12, 238.3e3


def ours(row: FlopTotal) -> float:
    if row.model is None:
        assert row.n_params is not None
        return train_flops_of_params(row.n_params, row.n_tokens, row.convention)
    assert row.seq_len is not None
    return train_flops(MODELS[row.model], row.n_tokens, row.seq_len, row.convention)


@pytest.mark.parametrize("row", [row for row in TOTALS if row.agrees], ids=lambda row: row.name)
def test_a_published_total_within_3_percent(row: FlopTotal) -> None:
    assert ours(row) == pytest.approx(row.flops, rel=0.03)


@pytest.mark.parametrize("row", [row for row in TOTALS if not row.agrees], ids=lambda row: row.name)
def test_a_row_is_called_different_only_if_it_is(row: FlopTotal) -> None:
    assert ours(row) != pytest.approx(row.flops, rel=0.03)


def test_at_least_20_totals_are_read_and_counted_from_the_shape() -> None:
    """Read in the source, convention stated there or pointed to, parameters counted by us."""
    read = [row for row in TOTALS if row.agrees and row.verified]
    assert len([row for row in read if row.model is not None]) >= 20
    assert len([row for row in read if row.convention_stated]) >= 20
    assert {row.convention for row in read} >= {
        FlopConvention.SIX_ND,
        FlopConvention.SIX_ND_ACTIVE,
        FlopConvention.MEGATRON,
        FlopConvention.FULL_RECOMPUTE,
    }


@pytest.mark.parametrize(("convention", "mfu"), [(FlopConvention.PALM, 0.462), (FlopConvention.SIX_ND, 0.457)])
def test_palm_540b_has_the_published_mfu(convention: FlopConvention, mfu: float) -> None:
    """238.3K tokens/s on 6,144 TPU v4: 46.2 % of peak, 45.7 % without attention (PaLM, appendix B, recalled)."""
    per_token = convention_flops_per_token(MODELS["palm-540b"], 2048, convention)
    assert per_token * PALM_TOKENS_PER_S / (PALM_CHIPS * PALM_PEAK_FLOPS_PER_S) == pytest.approx(mfu, abs=5e-4)


@pytest.mark.parametrize(
    ("model", "n_tokens", "n_chips", "flops_per_s", "days"),
    [
        ("gpt3-175b", 300e9, 384, 153e12, 84),
        ("gpt3-175b", 300e9, 768, 149e12, 43),
        ("mt-nlg-530b", 300e9, 560, 171e12, 156),
        ("mt-nlg-530b", 300e9, 1120, 167e12, 80),
        ("megatron-gpt-1t", 450e9, 3072, 163e12, 84),
    ],
)
def test_megatron_published_days(model: str, n_tokens: float, n_chips: int, flops_per_s: float, days: int) -> None:
    """Hardware FLOP/s and days of Narayanan et al. 2021, table 2, and of its trillion-parameter estimate."""
    flops = train_flops(MODELS[model], n_tokens, 2048, FlopConvention.FULL_RECOMPUTE)
    assert flops / (n_chips * flops_per_s * 86400) == pytest.approx(days, rel=0.03)


def test_megatron_estimates_a_trillion_parameters_by_8_t_p() -> None:
    """Equation 4: 84 days for 450B tokens on 3,072 chips at 163 TFLOP/s."""
    flops = train_flops_of_params(1.008e12, 450e9, FlopConvention.EIGHT_ND)
    assert flops / (3072 * 163e12 * 86400) == pytest.approx(84, rel=0.01)


@pytest.mark.parametrize("name", ["gpt3-175b", "megatron-gpt-1t", "mt-nlg-530b"])
def test_megatron_closed_forms(name: str) -> None:
    """Equation 3, and the same without recomputation: exact for the layers that the paper describes."""
    model, s = MODELS[name], 2048
    layers, h, v = model.n_layers, model.d_model, model.vocab_size
    recomputed = 96 * layers * h**2 * (1 + s / (6 * h) + v / (16 * layers * h))
    needed = 72 * layers * h**2 * (1 + s / (6 * h) + v / (12 * layers * h))
    assert convention_flops_per_token(model, s, FlopConvention.FULL_RECOMPUTE) == pytest.approx(recomputed, rel=1e-12)
    assert convention_flops_per_token(model, s, FlopConvention.MEGATRON) == pytest.approx(needed, rel=1e-12)


def test_deepseek_llm_compares_conventions() -> None:
    """DeepSeek LLM, arXiv:2401.02954, table 3: of 8 layers 512 wide at 4,096 tokens, 72 l h^2 + 12 l h s = 352M."""
    model = ModelSpec(
        name="deepseek-llm-table-3",
        n_layers=8,
        d_model=512,
        n_heads=8,
        n_kv_heads=8,
        d_head=64,
        d_ff=2048,
        gated_mlp=False,
        vocab_size=102400,
        max_seq_len=4096,
    )
    without_head = convention_flops_per_token(model, 4096, FlopConvention.MEGATRON) - 6 * count_params(model).head
    assert without_head == pytest.approx(352e6, rel=2e-3)


@given(st.sampled_from(sorted(MODELS)), st.integers(1, 1024))
def test_conventions_keep_their_order(name: str, seq_len: int) -> None:
    """Causal attention is at most the square, active at most all, and recomputation only adds."""
    flops = {c: convention_flops_per_token(MODELS[name], min(seq_len, 1024), c) for c in FlopConvention}
    c = FlopConvention
    assert flops[c.MODEL_FLOPS] <= flops[c.MEGATRON] < flops[c.FULL_RECOMPUTE] <= 4 / 3 * flops[c.MEGATRON]
    assert flops[c.SIX_ND_ACTIVE] <= flops[c.SIX_ND] < flops[c.EIGHT_ND]
    assert flops[c.SIX_ND_ACTIVE] < flops[c.PALM]


@pytest.mark.parametrize("convention", FlopConvention)
def test_twice_the_tokens_is_twice_the_flops(convention: FlopConvention) -> None:
    model = MODELS["mixtral-8x7b"]
    once, twice = (train_flops(model, n, 4096, convention) for n in (1e12, 2e12))
    assert twice == 2 * once


@pytest.mark.parametrize(
    ("n_tokens", "seq_len", "message"),
    [(0, 2048, "n_tokens=0: must be above 0"), (1e9, 0, "seq_len=0"), (1e9, 10**6, "max_seq_len=2048")],
)
def test_nonsense_is_one_line(n_tokens: float, seq_len: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        train_flops(MODELS["gpt3-175b"], n_tokens, seq_len, FlopConvention.SIX_ND)


def test_a_convention_that_needs_the_shape_says_so() -> None:
    with pytest.raises(SpecError, match="convention=palm: needs the model's shape; of parameters alone: six_nd"):
        train_flops_of_params(7e9, 1e12, FlopConvention.PALM)
