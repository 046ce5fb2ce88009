"""What fewer bits cost in loss, while training and after it: Kumar et al. 2024, arXiv:2411.04330, equations 2 to 5.

Training in P bits leaves the effective parameters N (1 - e^(-P_w/g_w)) (1 - e^(-P_a/g_a)) (1 - e^(-P_kv/g_kv)).
Quantising afterwards adds C_T D^gD / N^gN e^(-P/g): it *rises* with data, so there are models that more data makes
worse once they are quantised. The constants (their appendix K) are recalled and marked so in the catalogue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twobills.errors import SpecError
from twobills.laws.forms import Law, loss
from twobills.laws.isoloss import losses, tokens_needed

FULL_BITS = 16.0
_MOST_LOG_TOKENS, _LADDER, _HALVINGS = 12.0, 241, 40
"""Tokens are sought up to e^12 times those that the model takes at full precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionLaw:
    """A law at full precision and how bits change it."""

    law: Law
    gamma_w: float
    gamma_a: float
    gamma_kv: float
    c_t: float
    gamma_d: float
    gamma_n: float
    gamma_post: float


def effective_params(
    law: PrecisionLaw, n_params: float, *, weight_bits: float, activation_bits: float, kv_bits: float
) -> float:
    """Parameters that at full precision would do as well as these trained in so many bits."""
    shares = (
        1 - math.exp(-_above_zero(name, bits) / gamma)
        for name, bits, gamma in (
            ("weight_bits", weight_bits, law.gamma_w),
            ("activation_bits", activation_bits, law.gamma_a),
            ("kv_bits", kv_bits, law.gamma_kv),
        )
    )
    return n_params * math.prod(shares)


def quantisation_loss(law: PrecisionLaw, n_params: float, n_tokens: float, bits: float) -> float:
    """Nats per token that quantising the weights after training adds."""
    _above_zero("bits", bits)
    return float(_added(law, n_params, n_tokens, bits))


def tokens_when_quantised(
    law: PrecisionLaw, of: Law, n_params: NDArray[np.float64], target_loss: float, bits: float
) -> NDArray[np.float64]:
    """Tokens after which each size, quantised, has the target loss by the law ``of``; infinite where none do.

    The cost of quantising is this law's, added to the other's loss: an assumption. It rises with data, so a size may
    come near the target and part from it again.
    """
    least = tokens_needed(of, n_params, target_loss)
    start = np.where(np.isfinite(least), least, 1.0)[:, None]
    tokens = start * np.exp(np.linspace(0.0, _MOST_LOG_TOKENS, _LADDER))
    reached = losses(of, n_params[:, None], tokens) + _added(law, n_params[:, None], tokens, bits) <= target_loss
    first, rows = np.argmax(reached, axis=1), np.arange(len(n_params))
    low, high = tokens[rows, np.maximum(first - 1, 0)], tokens[rows, first]
    for _ in range(_HALVINGS):
        middle = np.sqrt(low * high)
        enough = losses(of, n_params, middle) + _added(law, n_params, middle, bits) <= target_loss
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.asarray(np.where(reached.any(axis=1) & np.isfinite(least), high, np.inf))


def quantised_loss(law: PrecisionLaw, n_params: float, n_tokens: float, bits: float) -> float:
    """Nats per token of a model trained in 16 bits and quantised to ``bits`` afterwards."""
    full = {"weight_bits": FULL_BITS, "activation_bits": FULL_BITS, "kv_bits": FULL_BITS}
    trained = loss(law.law, effective_params(law, n_params, **full), n_tokens)
    return trained + quantisation_loss(law, n_params, n_tokens, bits)


def _added(law: PrecisionLaw, n_params: Any, n_tokens: Any, bits: float) -> Any:
    return law.c_t * n_tokens**law.gamma_d / n_params**law.gamma_n * math.exp(-bits / law.gamma_post)


def _above_zero(name: str, bits: float) -> float:
    if not bits > 0:
        raise SpecError(f"{name}={bits:g}: must be above 0")
    return bits
