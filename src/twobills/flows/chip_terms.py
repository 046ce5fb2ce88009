"""On which terms chips are had, from what a user asked: rented at some price or owned, and what owning would cost.

The latter says who gets each dollar of a bill; where it is not known, there is a reason instead.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from twobills.errors import CatalogError, RequestError, SpecError
from twobills.money.bill import Bill
from twobills.money.owned import OwnedChip, Ownership, owned, ownership
from twobills.money.rates import Rates, at_user_price, rented
from twobills.money.split import Tenure, split_bill
from twobills.specs import catalog
from twobills.specs.hardware import ChipSpec
from twobills.specs.prices import ChipPrice, PriceKind, default_price
from twobills.specs.running import Running, silicon_costs
from twobills.units import DAYS_PER_YEAR, JOULES_PER_KWH, SECONDS_PER_DAY

MOST_USD_PER_CHIP_HOUR = 1e6
"""Ten thousand times the dearest there is: a slip of the pen."""
WHOLE_SERVER_WORDS = ("box", "DGX", "server")
"""In the note of a chip's list price: it is a share of a whole server's, so nothing comes on top for the server."""


class Terms(NamedTuple):
    """On which terms chips are had."""

    rates: Rates
    tenure: Tenure
    cost: Ownership | None
    """What owning them costs."""
    no_cost: str
    """Why that is not known; empty if it is."""


def chip_terms(
    chip: ChipSpec,
    running: Running,
    *,
    owning: bool = False,
    usd_per_chip_hour: float | None = None,
    kind: PriceKind | None = None,
    catalog_file: Path | None = None,
) -> Terms:
    """Rates of the chip: owned, at the user's price, or at the catalogue's.

    A chip that nobody in the catalogue rents out is priced as owned, marked as assumed. Raises RequestError where what
    it costs to buy is not known either.
    """
    cost, reason = _ownership(chip, running)
    if owning:
        if cost is None:
            raise SpecError(f"chip {chip.name}: {reason}, so owning it cannot be priced; give it in a --catalog file")
        return Terms(owned(cost, as_of=chip.list_price_as_of or chip.as_of), Tenure.OWNED, cost, reason)
    if usd_per_chip_hour is not None:
        check_price(usd_per_chip_hour)
        rates = at_user_price(usd_per_chip_hour, as_of=date.today().isoformat())
        return Terms(rates, Tenure.RENTED, cost, reason)
    if kind is None and cost is not None and not catalog.chip_prices(chip.name, catalog_file):
        rates = owned(cost, as_of=chip.list_price_as_of or chip.as_of)
        nobody = f"nobody's rent of it is in the catalogue, so priced as owned: {rates.source}"
        return Terms(replace(rates, source=nobody, assumed=True), Tenure.OWNED, cost, reason)
    return Terms(rented(_price(chip, kind, catalog_file)), Tenure.RENTED, cost, reason)


def check_price(usd_per_chip_hour: float) -> None:
    """Raises RequestError for what is no price of an hour of a chip."""
    if not 0 <= usd_per_chip_hour <= MOST_USD_PER_CHIP_HOUR:
        most = f"{MOST_USD_PER_CHIP_HOUR:,.0f}"
        raise RequestError(f"--usd-per-chip-hour {usd_per_chip_hour:g}: must be a number of dollars from 0 to {most}")


def owning_words(running: Running) -> list[str]:
    """In words, by what it is reckoned what owning a chip costs; a user's own figures are no assumption."""
    shown = {
        "electricity_usd_per_j": f"electricity at ${running.electricity_usd_per_j * JOULES_PER_KWH:.3g} a kWh",
        "life_s": f"chips written off in {running.life_s / SECONDS_PER_DAY / DAYS_PER_YEAR:.3g} years",
    }
    return [words for name, words in shown.items() if running.is_default(name)]


def split_of(bill: Bill, chip: ChipSpec, terms: Terms) -> dict[str, Any] | None:
    """Who gets each dollar of a bill, as plain JSON; None where what owning costs is not known."""
    if terms.cost is None:
        return None
    return split_bill(bill, terms.cost, terms.tenure, silicon=silicon_costs().get(chip.name)).to_json()


def _price(chip: ChipSpec, kind: PriceKind | None, catalog_file: Path | None) -> ChipPrice:
    if kind is None:
        return catalog.chip_price(chip.name, catalog_file)
    known = catalog.chip_prices(chip.name, catalog_file)
    found = [price for price in known if price.kind is kind]
    if not found:
        kinds = ", ".join(dict.fromkeys(price.kind for price in known)) or "no price at all"
        raise CatalogError(f"--price-kind {kind}: chip {chip.name} has none of that kind; it has {kinds}")
    return default_price(found)


def _ownership(chip: ChipSpec, running: Running) -> tuple[Ownership | None, str]:
    if chip.list_price_usd is None:
        return None, "what it costs to buy (list_price_usd) is not known"
    if chip.watts is None:
        return None, "its power (watts) is not known"
    if any(word in chip.list_price_note for word in WHOLE_SERVER_WORDS):
        running = replace(running, server_factor=1.0)
    return ownership(OwnedChip(price_usd=chip.list_price_usd, watts=chip.watts), running), ""
