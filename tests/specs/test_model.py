from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from twobills.errors import SpecError
from twobills.specs import catalog
from twobills.specs.model import Biases, LatentAttention, ModelSpec, MoE, Norm, Window, check_own_network

MODEL = catalog.model("smollm2-135m")
LATENT = LatentAttention(kv_lora_rank=8, d_rope=4, d_nope=4, d_value=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_kv_heads": 2}, "n_heads=9: not divisible by n_kv_heads=2"),
        ({"d_head": 63}, "d_head=63: must be even"),
        ({"n_layers": 0}, "n_layers=0: must be at least 1"),
        ({"norm_eps": 0.0}, "must be above 0"),
        ({"n_learned_positions": -1}, "n_learned_positions=-1: must be at least 0"),
        ({"d_embedding": 0}, "d_embedding=0: must be at least 1"),
        ({"latent": LATENT}, r"d_head=64: must be d_nope \+ d_rope = 8"),
        (
            {"moe": MoE(n_experts=2, n_active_experts=1, d_expert=8, n_dense_first=30)},
            "n_dense_first=30: must be below",
        ),
    ],
)
def test_a_shape_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(MODEL, **change)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MoE(n_experts=2, n_active_experts=3, d_expert=8), "n_active_experts=3: must be at most n_experts=2"),
        (lambda: MoE(n_experts=2, n_active_experts=1, d_expert=0), "d_expert=0"),
        (lambda: Window(n_tokens=0), "n_tokens=0"),
        (lambda: Window(n_tokens=8, full_every=1), "full_every=1: must be at least 2"),
        (lambda: replace(LATENT, q_lora_rank=0), "q_lora_rank=0"),
    ],
)
def test_a_part_that_contradicts_itself_is_refused(build: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rope_scaling": "llama3"}, "rope_scaling=llama3"),
        ({"family": "smollm3"}, "family=smollm3"),
        ({"activation": "gelu"}, "activation=gelu"),
        ({"norm": Norm.LAYER}, "norm=layer"),
        ({"biases": Biases(qkv=True)}, "biases="),
        ({"window": Window(n_tokens=128)}, "window="),
        ({"moe": MoE(n_experts=2, n_active_experts=1, d_expert=8)}, "moe="),
        ({"qk_norm": True, "qk_norm_full": True}, "qk_norm_full=True"),
    ],
)
def test_our_own_network_refuses_what_it_would_get_wrong(change: dict[str, Any], named: str) -> None:
    with pytest.raises(SpecError, match=f"{named}.*our own network runs Llama, Qwen3 and Arcee shapes only"):
        check_own_network(replace(MODEL, **change))


def test_our_own_network_runs_llama_and_qwen3() -> None:
    check_own_network(MODEL)
    check_own_network(replace(MODEL, qk_norm=True))


def test_a_model_is_a_key() -> None:
    """Counts are cached by model."""
    assert len({MODEL, replace(MODEL), ModelSpec(**{f: getattr(MODEL, f) for f in MODEL.__slots__})}) == 1
