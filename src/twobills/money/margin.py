"""What a sale leaves: as a share of what came in (margin), or of what it cost (markup). Two words, often confused."""

from __future__ import annotations

from twobills.errors import SpecError


def margin_frac(revenue_usd: float, cost_usd: float) -> float:
    """Profit over revenue: at most 1. Raises SpecError without revenue."""
    if revenue_usd <= 0:
        raise SpecError(f"revenue_usd={revenue_usd:g}: must be above 0; a margin is a share of it")
    return 1 - cost_usd / revenue_usd


def markup_frac(revenue_usd: float, cost_usd: float) -> float:
    """Profit over cost: without an upper end. Raises SpecError without cost."""
    if cost_usd <= 0:
        raise SpecError(f"cost_usd={cost_usd:g}: must be above 0; a markup is on it")
    return revenue_usd / cost_usd - 1
