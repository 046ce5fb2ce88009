"""How big a model to train in a given time on a given machine, and on how many tokens.

For each size of a ladder: the tokens that fit into the time at the forecast speed, what repeats of the corpus are
worth, and the loss that a published law gives for that size and data. The size with the lowest loss wins. The law
was fitted on models hundreds of times larger and on other text, so its absolute loss means nothing here; only the
order of the sizes is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.laws.forms import Law, loss
from twobills.laws.repeats import effective_tokens
from twobills.perf.capacity import training_memory
from twobills.perf.step import train_step
from twobills.specs.dtype import DType
from twobills.specs.hardware import MachineSpec
from twobills.specs.model import ModelSpec

D_HEAD = 64
SMALL_D_HEAD = 32
"""Of models so narrow that heads of 64 would leave only one."""
_LADDER = (
    (64, 3),
    (128, 4),
    (192, 4),
    (256, 4),
    (256, 6),
    (320, 6),
    (384, 6),
    (512, 8),
    (640, 10),
    (768, 12),
    (1024, 16),
)
"""(d_model, n_layers) of the sizes that are weighed."""


class Choice(NamedTuple):
    """One size, what it could be trained on in the time, and the loss that the law gives it."""

    model: ModelSpec
    n_params: int
    n_tokens: int
    step_s: float
    law_loss: float


def choose_size(
    machine: MachineSpec,
    law: Law,
    *,
    train_s: float,
    n_unique_tokens: float,
    vocab_size: int,
    batch_size: int,
    seq_len: int,
    dtype: DType,
) -> list[Choice]:
    """All sizes that fit, the best first. Raises SpecError if the time is too short for a step of the smallest."""
    choices = []
    for model in ladder(vocab_size=vocab_size, max_seq_len=seq_len):
        shape = {"batch_size": batch_size, "seq_len": seq_len, "dtype": dtype}
        step_s = train_step(model, machine, **shape).seconds  # type: ignore[arg-type]
        n_steps = int(train_s / step_s)
        if n_steps < 1 or not training_memory(model, machine, **shape).fits:  # type: ignore[arg-type]
            continue
        n_tokens, n_params = n_steps * batch_size * seq_len, count_params(model).total
        predicted = loss(law, n_params, effective_tokens(n_tokens, n_unique_tokens))
        choices.append(Choice(model, n_params, n_tokens, step_s, predicted))
    if not choices:
        raise SpecError(f"train_s={train_s:g}: too short for one step of the smallest size on {machine.chip.name}")
    return sorted(choices, key=lambda choice: choice.law_loss)


def ladder(*, vocab_size: int, max_seq_len: int) -> Iterator[ModelSpec]:
    """The sizes that are weighed, smallest first: heads of 64, at most half of them for keys and values, MLP of 8/3."""
    for d_model, n_layers in _LADDER:
        d_head = D_HEAD if d_model > D_HEAD else SMALL_D_HEAD
        n_heads = d_model // d_head
        n_kv_heads = next(k for k in range(max(1, n_heads // 2), 0, -1) if n_heads % k == 0)
        yield ModelSpec(
            name=f"d{d_model}-l{n_layers}",
            n_layers=n_layers,
            d_model=d_model,
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            d_head=d_head,
            d_ff=round(8 * d_model / 3 / 64) * 64,
            vocab_size=vocab_size,
            max_seq_len=max_seq_len,
            tied_embeddings=True,
        )
