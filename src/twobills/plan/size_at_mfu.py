"""The best size in dollars where all that is known of the chips is a price and a utilisation for each job.

Sardana et al. 2023, arXiv:2401.00448, section 6: dollars are $/FLOP over MFU times FLOPs, apart for training, reading
prompts and writing answers. Both inference terms are 2 N per token, so this is their objective in FLOPs with tokens
weighted by price. Real chips, caches and memory are ``plan.size``'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from twobills.errors import SpecError
from twobills.laws.forms import Law
from twobills.laws.isoloss import TRAIN_FLOPS
from twobills.laws.lifetime import Lifetime, lifetime, lifetime_optimum


@dataclass(frozen=True, slots=True, kw_only=True)
class FlopPrices:
    """What a FLOP of each job costs."""

    train_usd_per_flop: float
    """At the chip's peak; the MFUs say how much of it is had."""
    serve_usd_per_flop: float
    train_mfu: float
    prompt_mfu: float
    decode_mfu: float

    def __post_init__(self) -> None:
        for name in ("train_usd_per_flop", "serve_usd_per_flop"):
            if not getattr(self, name) > 0:
                raise SpecError(f"{name}={getattr(self, name):g}: must be above 0")
        for name in ("train_mfu", "prompt_mfu", "decode_mfu"):
            if not 0 < getattr(self, name) <= 1:
                raise SpecError(f"{name}={getattr(self, name):g}: must be above 0 and at most 1")

    @property
    def usd_per_train_flop(self) -> float:
        """Of a FLOP that trains, at its MFU."""
        return self.train_usd_per_flop / self.train_mfu

    def weighted_tokens(self, prompt_tokens: float, answer_tokens: float) -> float:
        """Tokens of a life, each worth as many training FLOPs as its price buys."""
        reading, writing = (self.serve_usd_per_flop / mfu for mfu in (self.prompt_mfu, self.decode_mfu))
        return (reading * prompt_tokens + writing * answer_tokens) / self.usd_per_train_flop


class PricedSize(NamedTuple):
    """A size for one loss and what its life costs."""

    n_params: float
    n_tokens: float
    train_usd: float
    inference_usd: float

    @property
    def total_usd(self) -> float:
        """Both bills."""
        return self.train_usd + self.inference_usd


def cheapest_at_mfu(
    law: Law, target_loss: float, prices: FlopPrices, *, prompt_tokens: float, answer_tokens: float
) -> PricedSize:
    """The size of the fewest dollars for a life of so many tokens read and written."""
    tokens = prices.weighted_tokens(prompt_tokens, answer_tokens)
    return _priced(lifetime_optimum(law, target_loss, tokens), prices)


def cost_at_mfu(
    law: Law,
    n_params: float,
    target_loss: float,
    prices: FlopPrices,
    *,
    prompt_tokens: float,
    answer_tokens: float,
) -> PricedSize:
    """The same of a given size. Raises SpecError where no amount of data reaches the loss."""
    tokens = prices.weighted_tokens(prompt_tokens, answer_tokens)
    return _priced(lifetime(law, n_params, target_loss, tokens), prices)


def _priced(of: Lifetime, prices: FlopPrices) -> PricedSize:
    usd = prices.usd_per_train_flop
    training = TRAIN_FLOPS * of.n_params * of.n_tokens * usd
    return PricedSize(of.n_params, of.n_tokens, training, of.inference_flops * usd)
