"""Which token comes next: the likeliest, or one drawn from what temperature, top-k and top-p leave.

A draw needs one uniform number. It is a hash of the request's seed and the token's place in the answer, not
the next number of a shared generator, so a seeded answer does not depend on who else is in the batch, nor
on preemption. Requests without a seed get one from the engine's seed and their id.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from twobills.serving.request import Request


def sample(logits_nV: Tensor, requests: Sequence[Request], *, engine_seed: int) -> list[int]:
    """One token id per row of logits (n, V), fp32; row i belongs to request i."""
    tokens: list[int] = logits_nV.argmax(-1).tolist()
    drawn = [i for i, request in enumerate(requests) if request.params.temperature > 0]
    if drawn:
        chosen = [requests[i] for i in drawn]
        rows = logits_nV if len(drawn) == len(requests) else logits_nV[drawn]
        for i, token in zip(drawn, _draw(rows, chosen, engine_seed), strict=True):
            tokens[i] = token
    return tokens


def uniform(request: Request, engine_seed: int) -> float:
    """The number in [0, 1) that decides the request's next token."""
    seed = request.params.seed
    source = f"{engine_seed}/{request.id}" if seed is None else str(seed)
    digest = hashlib.sha256(f"{source}:{len(request.output_token_ids)}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def _draw(logits_nV: Tensor, requests: Sequence[Request], engine_seed: int) -> list[int]:
    params = [request.params for request in requests]
    device = logits_nV.device
    logits_nV = logits_nV / torch.tensor([p.temperature for p in params], device=device)[:, None]
    if any(p.top_k for p in params):
        logits_nV = _keep_top_k(logits_nV, [p.top_k for p in params])
    if any(p.top_p < 1 for p in params):
        logits_nV = _keep_top_p(logits_nV, [p.top_p for p in params])
    # In double, so that a whole vocabulary's small probabilities do not lose the last tokens to rounding.
    cumulative_nV = logits_nV.softmax(-1, dtype=torch.float64).cumsum(-1)
    draws = [uniform(request, engine_seed) for request in requests]
    u_n1 = torch.tensor(draws, device=device, dtype=torch.float64)[:, None] * cumulative_nV[:, -1:]
    # right=True: the first token whose cumulative probability exceeds u, never one of probability 0.
    tokens: list[int] = torch.searchsorted(cumulative_nV, u_n1, right=True).squeeze(-1).tolist()
    return tokens


def _keep_top_k(logits_nV: Tensor, top_k: Sequence[int]) -> Tensor:
    """All but each row's k likeliest become impossible; k = 0 keeps all."""
    V = logits_nV.shape[-1]
    ks = [min(k, V) or V for k in top_k]
    widest = max(k for k in ks if k < V) if min(ks) < V else V
    best = logits_nV.topk(widest, dim=-1).values
    column = torch.tensor([min(k, widest) - 1 for k in ks], device=logits_nV.device)[:, None]
    keeps_all = torch.tensor([k == V for k in ks], device=logits_nV.device)[:, None]
    return logits_nV.masked_fill((logits_nV < best.gather(-1, column)) & ~keeps_all, -math.inf)


def _keep_top_p(logits_nV: Tensor, top_p: Sequence[float]) -> Tensor:
    """Keeps each row's likeliest tokens until they reach p together, at least one; p = 1 keeps all."""
    ordered = logits_nV.sort(dim=-1, descending=True)
    probabilities = ordered.values.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    limits = torch.tensor([p if p < 1 else math.inf for p in top_p], device=logits_nV.device)[:, None]
    dropped = (before >= limits).scatter(-1, ordered.indices, before >= limits)
    return logits_nV.masked_fill(dropped, -math.inf)
