"""Sardana et al. 2023, section 6 and appendix B: their dollar cases, within 10 %; at the ratio that meets them, 1 %."""

from __future__ import annotations

import pytest

from twobills.errors import SpecError
from twobills.laws.lifetime import lifetime, lifetime_optimum
from twobills.laws.optimum import optimum_for_size
from twobills.laws.published import published_law
from twobills.plan.size_at_mfu import FlopPrices, cheapest_at_mfu, cost_at_mfu

LAW = published_law("sardana-2023")
PROMPT_TOKENS, ANSWER_TOKENS = 70, 215
A100_BF16, A100_INT8 = 312e12, 624e12


def paper_prices(serve_usd_per_hour: float) -> FlopPrices:
    """A100-80GB at $1.50 an hour in 16 bits to train, A100-40GB with int8 to serve; MFU 50 %, 50 % and 1 %."""
    return FlopPrices(
        train_usd_per_flop=1.50 / 3600 / A100_BF16,
        serve_usd_per_flop=serve_usd_per_hour / 3600 / A100_INT8,
        train_mfu=0.5,
        prompt_mfu=0.5,
        decode_mfu=0.01,
    )


def saving_frac(quality: float, requests: float, prices: FlopPrices) -> float:
    demand = {"prompt_tokens": PROMPT_TOKENS * requests, "answer_tokens": ANSWER_TOKENS * requests}
    target = optimum_for_size(LAW, quality).loss
    best = cheapest_at_mfu(LAW, target, prices, **demand)
    return 1 - best.total_usd / cost_at_mfu(LAW, quality, target, prices, **demand).total_usd


@pytest.mark.parametrize(("serve_usd_per_hour", "tolerance"), [(1.10, 0.10), (0.99, 0.01)])
@pytest.mark.parametrize(
    ("quality", "requests", "best_params", "best_tokens"),
    [(30e9, 1.5e9, 16.1e9, 3.35e12), (70e9, 35.1e9, 21.5e9, 27e12)],
)
def test_the_papers_sizes_in_dollars(
    quality: float, requests: float, best_params: float, best_tokens: float, serve_usd_per_hour: float, tolerance: float
) -> None:
    """At the printed prices within 10 %; where serving is priced at 0.9 of it, which meets all three triples, nearer.

    The paper prints 16B, 3.35T and 21.5B, 27T; two digits each, so 2 % is as near as the tokens can be told.
    """
    found = cheapest_at_mfu(
        LAW,
        optimum_for_size(LAW, quality).loss,
        paper_prices(serve_usd_per_hour),
        prompt_tokens=PROMPT_TOKENS * requests,
        answer_tokens=ANSWER_TOKENS * requests,
    )
    assert found.n_params == pytest.approx(best_params, rel=tolerance)
    assert found.n_tokens == pytest.approx(best_tokens, rel=max(tolerance, 0.02))


@pytest.mark.parametrize(
    ("quality", "requests", "printed"), [(30e9, 1.5e9, 0.17), (70e9, 35.1e9, 0.54), (70e9, 7.02e9, 1 - 1 / 1.36)]
)
def test_the_papers_savings_in_dollars(quality: float, requests: float, printed: float) -> None:
    """17 % and 54 % cheaper; 36 % more than the cost optimum. What is left of the bill within 10 %; nearer at 0.9."""
    assert 1 - saving_frac(quality, requests, paper_prices(1.10)) == pytest.approx(1 - printed, rel=0.10)
    assert saving_frac(quality, requests, paper_prices(0.99)) == pytest.approx(printed, abs=0.006)


def test_where_flops_say_one_per_cent_dollars_say_a_third() -> None:
    """70B quality, 7.02B requests: 1.3 % more FLOPs than the FLOP optimum, 36 % more dollars than the other."""
    requests = 7.02e9
    target = optimum_for_size(LAW, 70e9).loss
    tokens = (PROMPT_TOKENS + ANSWER_TOKENS) * requests
    flops = lifetime(LAW, 70e9, target, tokens).total_flops / lifetime_optimum(LAW, target, tokens).total_flops - 1
    assert flops == pytest.approx(0.013, abs=0.001)
    assert saving_frac(70e9, requests, paper_prices(0.99)) > 15 * flops


def test_equal_prices_are_flops() -> None:
    prices = FlopPrices(train_usd_per_flop=1e-18, serve_usd_per_flop=1e-18, train_mfu=1, prompt_mfu=1, decode_mfu=1)
    target = optimum_for_size(LAW, 13e9).loss
    in_dollars = cheapest_at_mfu(LAW, target, prices, prompt_tokens=1e12, answer_tokens=1e12)
    in_flops = lifetime_optimum(LAW, target, 2e12)
    assert in_dollars.n_params == pytest.approx(in_flops.n_params)
    assert in_dollars.total_usd == pytest.approx(in_flops.total_flops * 1e-18)


def test_the_impossible_is_refused() -> None:
    with pytest.raises(SpecError, match="decode_mfu=0: must be above 0 and at most 1"):
        FlopPrices(train_usd_per_flop=1, serve_usd_per_flop=1, train_mfu=1, prompt_mfu=1, decode_mfu=0)
    with pytest.raises(SpecError, match="serve_usd_per_flop=0"):
        FlopPrices(train_usd_per_flop=1, serve_usd_per_flop=0, train_mfu=1, prompt_mfu=1, decode_mfu=1)
