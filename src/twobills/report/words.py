"""How a report says an amount, a phase or a cause to somebody who has never seen one.

Quantities are shown by ``units``; here is only what needs words around them: a signed difference of dollars,
a demand, a duration of years, and the plain name of each phase.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from twobills.units import DAYS_PER_YEAR, SECONDS_PER_DAY, show_count, show_seconds, show_usd, significant
from twobills.usage import Phase

PHASE_WORDS: Mapping[Phase, str] = {
    Phase.PRETRAIN: "learning from the data",
    Phase.FINETUNE: "fine-tuning",
    Phase.DISTILL: "learning from a teacher",
    Phase.EVALUATE: "checking on data it never saw",
    Phase.LOST: "work lost to a failure",
    Phase.PREFILL: "reading prompts",
    Phase.DECODE: "writing answers",
    Phase.DRAFT: "guessing ahead",
    Phase.IDLE: "waiting for requests",
}


def signed_usd(usd: float, *, beside: float = 0.0) -> str:
    """A difference of dollars with its sign: ``+$0.00031``; ``$0.00`` for none.

    Differences that are only rounding ``beside`` an amount (below a billionth of it) are none.
    """
    if abs(usd) < 1e-9 * abs(beside):
        usd = 0.0
    return f"+{show_usd(usd)}" if usd > 0 else show_usd(usd)


def short(text: str) -> str:
    """A shown quantity without zeros behind its point: ``$0.00400`` is ``$0.004``, ``1.00k`` is ``1k``."""
    return re.sub(r"(\.\d*?)0+(?=\D|$)", lambda m: m[1] if m[1] != "." else "", text)


def show_demand(requests_per_day: float) -> str:
    """So many requests a day, briefly: ``10k``."""
    return short(show_count(requests_per_day))


def show_days(days: float) -> str:
    """A duration given in days: seconds up to years, ``never`` is the caller's."""
    if days >= 2 * DAYS_PER_YEAR:
        years = days / DAYS_PER_YEAR
        return f"{show_count(years) if years >= 1e4 else significant(years)} years"
    return show_seconds(days * SECONDS_PER_DAY)


def show_days_briefly(days: float) -> str:
    """The same for a label in a figure: ``49 min``, not ``49 min 15 s``."""
    return re.sub(r" min \d+ s$", " min", show_days(days))
