"""The cells of a sweep: which sizes at which budget, how each is trained, and which size an open curve lacks.

Sizes come from a ladder of shapes, each 1.6 to 2.1 times the one below. A cell trains its size for as many steps as the
budget pays at the model FLOPs that ``counts`` counts (6 x matmul parameters + causal attention for each token), so it
spends its budget within half a step. N is all parameters; the tied embedding counts once and is the head that every
token is multiplied by, so 6ND is C but for attention.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from twobills.counts.flops import train_flops_per_token
from twobills.counts.params import count_params
from twobills.errors import RequestError
from twobills.laws.approaches import MIN_SIZES_PER_CURVE, isoflops
from twobills.laws.recipe import MIN_STEPS, recipe
from twobills.laws.runs import Runs
from twobills.specs.model import ModelSpec
from twobills.specs.sweep import SweepSpec

C_CONVENTION = "6 x matmul parameters + causal attention for each token, a multiply-add is 2 FLOPs"
N_CONVENTION = "all parameters; the tied embedding, which is also the head, counted once"
SHAPES = (
    *((16, 2, 2), (24, 2, 2), (32, 2, 2), (48, 2, 2), (64, 2, 2), (80, 3, 2), (96, 4, 2), (128, 4, 2)),
    *((160, 5, 4), (192, 6, 3), (256, 6, 4), (320, 7, 5), (384, 8, 6), (512, 8, 8), (640, 10, 10)),
    *((768, 12, 12), (1024, 14, 16), (1280, 16, 20), (1536, 20, 24), (2048, 22, 32), (2560, 26, 40)),
)
"""(d_model, n_layers, n_heads), the smallest first."""
FIRST_TOKENS_PER_PARAM = 9.0
"""Where the first budget's sizes are centred: near the minimum of trials at 1e12 FLOPs on the standard library."""
GROWTH = 0.5
"""Of the best size with the budget, until curves say otherwise: N ∝ C^0.5 (Hoffmann et al. 2022)."""


class Cell(NamedTuple):
    """One run of a sweep."""

    budget_flops: float
    rung: int
    """Which shape of the ladder."""
    model: ModelSpec
    n_params: int
    flops_per_token: float
    n_steps: int
    batch_size: int
    seq_len: int
    lr: float
    muon_lr: float

    @property
    def name(self) -> str:
        """Says budget and shape: ``c1e+12-d64-l2``."""
        return f"c{self.budget_flops:g}-{self.model.name}"

    @property
    def n_tokens(self) -> int:
        """D."""
        return self.n_steps * self.batch_size * self.seq_len

    @property
    def compute_flops(self) -> float:
        """C that the cell really spends on training."""
        return self.flops_per_token * self.n_tokens


def ladder(spec: SweepSpec) -> list[ModelSpec]:
    """All sizes that a sweep can have: an MLP of 8/3, as many heads for keys and values as for queries."""
    return [
        ModelSpec(
            name=f"d{d_model}-l{n_layers}",
            n_layers=n_layers,
            d_model=d_model,
            n_heads=n_heads,
            n_kv_heads=n_heads,
            d_head=d_model // n_heads,
            d_ff=max(32, round(8 * d_model / 3 / 16) * 16),
            vocab_size=spec.vocab_size,
            max_seq_len=spec.seq_len,
            tied_embeddings=True,
        )
        for d_model, n_layers, n_heads in SHAPES
    ]


def plan_cell(spec: SweepSpec, budget_flops: float, rung: int) -> Cell | None:
    """The run of this size at this budget; None where the budget is too small for 20 steps of it."""
    model = ladder(spec)[rung]
    per_token = train_flops_per_token(model, spec.seq_len)
    chosen = recipe(d_model=model.d_model, n_tokens=budget_flops / per_token, seq_len=spec.seq_len)
    n_steps = round(budget_flops / (per_token * chosen.batch_size * spec.seq_len))
    if n_steps < MIN_STEPS:
        return None
    return Cell(
        budget_flops=budget_flops,
        rung=rung,
        model=model,
        n_params=count_params(model).total,
        flops_per_token=per_token,
        n_steps=n_steps,
        seq_len=spec.seq_len,
        batch_size=chosen.batch_size,
        lr=chosen.lr,
        muon_lr=chosen.muon_lr,
    )


def first_cells(spec: SweepSpec, budget_flops: float, before: Mapping[float, float] | None = None) -> list[Cell]:
    """The sizes that a budget begins with, around the size that is likely its best.

    ``before`` has the best sizes of smaller budgets, where their curves have a minimum.
    Raises RequestError where the ladder has too few sizes that the budget can train.
    """
    n_best = _likely_best(spec, budget_flops, before or {})
    possible = [cell for rung in range(len(SHAPES)) if (cell := plan_cell(spec, budget_flops, rung))]
    if len(possible) < spec.n_sizes:
        raise RequestError(
            f"--budgets {budget_flops:g}: pays for {MIN_STEPS} steps of {len(possible)} sizes only, and --sizes asks "
            f"for {spec.n_sizes}; give a larger budget or a smaller --seq-len"
        )
    nearest = sorted(possible, key=lambda cell: abs(math.log(cell.n_params / n_best)))[: spec.n_sizes]
    return sorted(nearest, key=lambda cell: cell.rung)


def next_cell(spec: SweepSpec, done: Sequence[tuple[Cell, float]]) -> Cell | None:
    """The size that the curve of one budget lacks, told the losses so far; None if it has a minimum or cannot get one.

    It has one if its lowest loss and its parabola's lie between sizes. Else one more size is tried on the open side,
    unless the two outermost there diverged (their losses are NaN): the next would too.
    """
    side = open_side(done)
    rungs = [cell.rung for cell, _ in done]
    outermost = [loss for _, loss in sorted(done, key=lambda pair: pair[0].rung, reverse=side == "above")[:2]]
    if not any(math.isfinite(loss) for loss in outermost):
        return None
    rung = {"below": min(rungs) - 1, "above": max(rungs) + 1}.get(side, -1)
    return plan_cell(spec, done[0][0].budget_flops, rung) if 0 <= rung < len(SHAPES) else None


def open_side(done: Sequence[tuple[Cell, float]]) -> str:
    """Where the minimum of one budget's curve lies: within, below or above the sizes, or unclear."""
    known = sorted(((cell.n_params, loss) for cell, loss in done if math.isfinite(loss)), key=lambda pair: pair[0])
    if len(known) < MIN_SIZES_PER_CURVE:
        return "unclear"
    losses = [loss for _, loss in known]
    lowest = losses.index(min(losses))
    if lowest in (0, len(known) - 1):
        return "below" if lowest == 0 else "above"
    return curve_side(done)


def curve_side(done: Iterable[tuple[Cell, float]]) -> str:
    """What the parabola of one budget says; unclear where too few sizes have a loss."""
    runs = runs_of(done)
    curves = isoflops(runs) if len(runs) else []
    return curves[0].side if curves else "unclear"


def runs_of(done: Iterable[tuple[Cell, float]]) -> Runs:
    """The cells as the runs of a law, each at the FLOPs it spends; those that diverged (loss NaN) are left out."""
    pairs = [(cell, loss) for cell, loss in done if math.isfinite(loss)]
    return Runs(
        n_params=np.array([float(cell.n_params) for cell, _ in pairs]),
        n_tokens=np.array([float(cell.n_tokens) for cell, _ in pairs]),
        compute_flops=np.array([cell.compute_flops for cell, _ in pairs]),
        loss=np.array([loss for _, loss in pairs]),
    )


def _likely_best(spec: SweepSpec, budget_flops: float, before: Mapping[float, float]) -> float:
    """Parameters at which a budget's curve is likely lowest."""
    if before:
        last = max(before)
        return float(before[last] * (budget_flops / last) ** GROWTH)
    sizes = [(count_params(model).total, train_flops_per_token(model, spec.seq_len)) for model in ladder(spec)]
    return min(sizes, key=lambda size: abs(math.log(budget_flops / size[1] / size[0] / FIRST_TOKENS_PER_PARAM)))[0]
