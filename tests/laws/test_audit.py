from __future__ import annotations

import pytest

from twobills.laws.audit import audit, verdict_words
from twobills.laws.lifetime import lifetime
from twobills.laws.optimum import optimum_for_size
from twobills.laws.published import published_law

LAWS = [published_law("besiroglu-2024"), published_law("hoffmann-2022")]


@pytest.mark.parametrize(
    ("n_params", "n_tokens"),
    [(175e9, 300e9), (280e9, 300e9), (530e9, 270e9)],
    ids=["GPT-3", "Gopher", "Megatron-Turing"],
)
def test_the_oversized_of_2020_and_2021(n_params: float, n_tokens: float) -> None:
    """Hoffmann et al. 2022: the large models of the day were considerably over-sized."""
    assert "too big for its data" in audit("it", n_params, n_tokens, LAWS).verdict


def test_llama_3_8b_is_far_over_trained() -> None:
    found = audit("Llama 3 8B", 8.03e9, 15e12, LAWS)
    assert found.verdict == "far over-trained"
    assert found.tokens_per_param > 1800
    assert all(each.inference_factor < 0.3 for each in found.laws)
    assert all(each.outside for each in found.laws)


def test_chinchilla_is_near_its_law() -> None:
    """Hoffmann et al. made it after approaches 1 and 2; the replication's law agrees, 20 tokens for each parameter."""
    assert audit("Chinchilla", 70e9, 1.4e12, LAWS[:1]).verdict == "near the optimum"


def test_at_the_demand_from_which_it_pays_both_lives_cost_the_same() -> None:
    law = LAWS[0]
    under = audit("it", 8e9, 15e12, [law]).laws[0]
    assert under.pays_from_tokens is not None
    small = lifetime(law, 8e9, under.loss, under.pays_from_tokens)
    usual = lifetime(law, under.same_loss.n_params, under.loss, under.pays_from_tokens)
    assert small.n_tokens == pytest.approx(15e12, rel=1e-6)
    assert small.total_flops == pytest.approx(usual.total_flops, rel=1e-6)


def test_at_the_optimum_nothing_is_wasted() -> None:
    best = optimum_for_size(LAWS[0], 1e10)
    under = audit("it", best.n_params, best.n_tokens, LAWS[:1]).laws[0]
    assert under.wasted_train_frac == pytest.approx(0, abs=1e-9)
    assert under.times_best_params == pytest.approx(1)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ((5.0, 9.0), "far too big for its data"),
        ((2.0, 9.0), "too big for its data"),
        ((0.1, 0.2), "far over-trained"),
        ((0.1, 0.5), "over-trained"),
        ((0.9, 1.4), "near the optimum"),
        ((0.5, 1.0), "the laws disagree"),
    ],
)
def test_a_verdict_is_what_all_laws_say(times: tuple[float, float], words: str) -> None:
    assert verdict_words(times) == words
