"""What more samples or a bigger model buy at answering time: Brown et al. 2024 (coverage) and Snell et al. 2024.

Coverage is the share of problems that at least one of k samples solves; it helps where something can tell which one.
Ref: arXiv:2407.21787, equation 3, coverage = exp(a k^b); arXiv:2408.03314, section 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from twobills.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageLaw:
    """coverage(k) = exp(a k^b), a and b below 0."""

    name: str
    a: float
    b: float


def coverage(law: CoverageLaw, n_samples: float) -> float:
    """Share of problems that one of ``n_samples`` solves."""
    if not n_samples > 0:
        raise SpecError(f"n_samples={n_samples:g}: must be above 0")
    return math.exp(law.a * n_samples**law.b)


def coverage_through(few: tuple[float, float], many: tuple[float, float], name: str = "two points") -> CoverageLaw:
    """The law through two measured (samples, coverage), each coverage strictly between 0 and 1."""
    (k1, c1), (k2, c2) = few, many
    if not (0 < c1 < c2 < 1 and 0 < k1 < k2):
        raise SpecError(f"points ({k1:g}, {c1:g}) and ({k2:g}, {c2:g}): both must rise, coverage between 0 and 1")
    b = math.log(math.log(c2) / math.log(c1)) / math.log(k2 / k1)
    return CoverageLaw(name=name, a=math.log(c1) / k1**b, b=b)


def pass_at_k(n_samples: int, n_right: int, k: int) -> float:
    """The unbiased estimate of the chance that one of k samples is right, from n of which so many were."""
    if not 0 <= n_right <= n_samples or not 1 <= k <= n_samples:
        raise SpecError(f"n_samples={n_samples}, n_right={n_right}, k={k}: k within 1 to n, n_right within 0 to n")
    return 1 - math.comb(n_samples - n_right, k) / math.comb(n_samples, k)


def matched_inference_factor(size_factor: float, inference_to_training_tokens: float) -> float:
    """Times its inference that a small model may spend when one ``size_factor`` times larger costs as much.

    Training 6 N D, inference 2 N D_inf: M + 3 (D_train/D_inf) (M - 1). Ref: Snell et al. 2024, section 7.
    """
    if not (size_factor > 0 and inference_to_training_tokens > 0):
        raise SpecError(
            f"size_factor={size_factor:g}, inference_to_training_tokens={inference_to_training_tokens:g}: "
            "must be above 0"
        )
    return size_factor + 3 / inference_to_training_tokens * (size_factor - 1)
