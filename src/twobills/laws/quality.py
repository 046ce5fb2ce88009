"""What "as good as" means: a known model, the compute-optimal model of a size, or a loss; as a target under any law.

The first two are a different loss under each law, and under each draw from a law's covariance: what carries over from
one corpus to another is the comparison with a model, not the nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from twobills.errors import SpecError
from twobills.laws.forms import Law
from twobills.laws.isoloss import Columns, Laws, losses, tokens_at_optimum
from twobills.laws.optimum import optimum_for_loss


class Reference(NamedTuple):
    """A model that has the quality."""

    n_params: float
    n_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Exactly one of: parameters with tokens, parameters alone (trained compute-optimally), a loss."""

    n_params: float | None = None
    n_tokens: float | None = None
    loss: float | None = None

    def __post_init__(self) -> None:
        if (self.loss is None) == (self.n_params is None) or (self.n_tokens is not None and self.n_params is None):
            raise SpecError("quality: give parameters, with tokens or without, or a loss")

    def target(self, law: Law | Laws) -> Columns:
        """Nats per token under the law, or under each of many."""
        if self.n_params is None:
            return losses(law, 1.0, 1.0) * 0 + (self.loss or 0.0)
        n_tokens = self.n_tokens or tokens_at_optimum(law, self.n_params)
        return losses(law, self.n_params, n_tokens)

    def reference(self, law: Law) -> Reference:
        """A model that has it by the law: the one named, or else the compute-optimal one. Raises SpecError for none."""
        if self.n_params is not None:
            return Reference(self.n_params, self.n_tokens or float(tokens_at_optimum(law, self.n_params)))
        best = optimum_for_loss(law, self.loss or 0.0)
        return Reference(best.n_params, best.n_tokens)
