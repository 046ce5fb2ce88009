"""Models, chips and tables of plans for tests of the sharded training step; every rate is stated, none fitted."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import gcd

import numpy as np

from twobills.counts.layouts import Layouts, layouts_of
from twobills.perf.achieved import Achieved
from twobills.specs.calibration import Calibration
from twobills.specs.model import Biases, LatentAttention, ModelSpec, MoE, Norm, Window
from twobills.specs.parallel import ParallelSpec, Recompute, Zero

LLAMA = ModelSpec(
    name="grouped queries, gated",
    n_layers=16,
    d_model=1024,
    n_heads=16,
    n_kv_heads=8,
    d_head=64,
    d_ff=2816,
    vocab_size=32000,
    max_seq_len=8192,
)
GPT = replace(
    LLAMA,
    name="every head its keys, not gated, biases",
    n_kv_heads=16,
    d_ff=4096,
    gated_mlp=False,
    norm=Norm.LAYER,
    biases=Biases(qkv=True, output=True, mlp=True),
    n_learned_positions=8192,
    tied_embeddings=True,
)
PARALLEL_BLOCK = replace(GPT, name="attention beside the MLP", parallel_block=True, norms_per_layer=1)
WINDOWED = replace(LLAMA, name="windows", window=Window(n_tokens=1024, full_every=4))
EXPERTS = replace(
    LLAMA, name="experts", moe=MoE(n_experts=16, n_active_experts=2, d_expert=1408, d_shared=1408, n_dense_first=2)
)
LATENT = replace(
    EXPERTS,
    name="latent attention",
    n_kv_heads=16,
    d_head=96,
    latent=LatentAttention(kv_lora_rank=256, q_lora_rank=512, d_rope=32, d_nope=64, d_value=64),
)
BRIDGED = replace(GPT, name="a narrower embedding", d_embedding=512)
MODELS = [LLAMA, GPT, PARALLEL_BLOCK, WINDOWED, EXPERTS, LATENT, BRIDGED]

CALIBRATION = Calibration(
    matmul_frac={"hopper": 0.8},
    attention_frac={"hopper": 0.4},
    tuned_attention=1.5,
    half_rate_s=1e-6,
    bandwidth_frac=0.8,
    link_frac=0.75,
    network_frac=0.7,
    data_overlap=0.6,
    tensor_overlap=0.5,
    passes={"eager": 2.0, "fused": 1.2},
    straggling=0.01,
    log_sigma=0.1,
    log_sigma_unseen=0.3,
    run_low=0.8,
    run_high=2.5,
    source="a test",
    as_of="2026-01-01",
)
RATES = Achieved(
    product_flops_per_s=8e14,
    fp8_flops_per_s=16e14,
    attention_flops_per_s=4e14,
    half_rate_flops=1e9,
    bytes_per_s=2.5e12,
    passes=1.2,
    fast_bytes_per_s=3e11,
    slow_bytes_per_s=4e10,
    n_fast=8.0,
    data_overlap=0.6,
    tensor_overlap=0.5,
    straggling=0.01,
    peak_flops_per_s=1e15,
    log_sigma=0.1,
)
FREE_LINKS = RATES._replace(fast_bytes_per_s=np.inf, slow_bytes_per_s=np.inf)


def one(plan: ParallelSpec | None = None, *, global_batch: float = 1.0, fp8: bool = False) -> Layouts:
    """A table of one plan."""
    return layouts_of([plan or ParallelSpec(dp=1)], global_batch=global_batch, fp8=fp8)


def many(n_chips: int = 64, *, ep: int = 1, global_batch: float = 128.0, fp8: bool = False) -> Layouts:
    """About a hundred plans of all kinds that share ``n_chips``."""
    plans = [
        ParallelSpec(
            dp=n_chips // (tp * pp * cp),
            tp=tp,
            pp=pp,
            cp=cp,
            ep=gcd(ep, n_chips // (tp * pp)),
            zero=zero,
            shard=gcd(2, n_chips // (tp * pp)) if in_pairs else None,
            interleave=interleave if pp > 1 else 1,
            micro_batch=micro_batch,
            recompute=recompute,
        )
        for tp, pp, cp in product((1, 2, 8), (1, 4), (1, 2))
        for zero, in_pairs in (
            (Zero.NOTHING, False),
            (Zero.OPTIMISER, False),
            (Zero.PARAMETERS, False),
            (Zero.PARAMETERS, True),
        )
        for interleave, micro_batch, recompute in ((1, 1, Recompute.NONE), (2, 2, Recompute.FULL))
        if n_chips % (tp * pp * cp) == 0
    ]
    return layouts_of(plans, global_batch=global_batch, fp8=fp8)
