"""Chips that a search may choose from: kinds, numbers and prices in the user's words as clusters and rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from twobills.errors import CatalogError, RequestError, SpecError
from twobills.flows.asked import network_bytes_per_s, parse_chips
from twobills.flows.chip_terms import check_price, chip_terms
from twobills.money.rates import Rates, at_user_price
from twobills.money.split import Tenure
from twobills.specs import catalog
from twobills.specs.cluster import ClusterSpec
from twobills.specs.hardware import ChipSpec
from twobills.specs.running import Running, default_running


def offered_chips(text: str, catalog_file: Path | None) -> list[tuple[ChipSpec, int]]:
    """Kinds and numbers of ``NAME:COUNT``, several with commas. Raises RequestError."""
    named = dict.fromkeys(parse_chips(part.strip()) for part in text.split(","))
    return [(catalog.chip(name, catalog_file), n_chips) for name, n_chips in named]


def offered_clusters(text: str, network_gbps: float | None, catalog_file: Path | None) -> list[ClusterSpec]:
    """The same as clusters; ``network_gbps`` is of one chip, Gbit/s. Raises RequestError."""
    network = network_bytes_per_s(network_gbps)
    return [
        ClusterSpec(chip=chip, n_chips=n_chips, scaleout_bytes_per_s=network)
        for chip, n_chips in offered_chips(text, catalog_file)
    ]


def chip_prices(
    chips: Sequence[ChipSpec],
    usd_per_chip_hour: str | None,
    catalog_file: Path | None,
    *,
    owning: bool = False,
    running: Running | None = None,
) -> dict[str, Rates | str]:
    """Rates of each chip by name, or why there are none.

    ``usd_per_chip_hour`` is one price for all, or ``NAME=USD``, several with commas. ``owning``: they are bought,
    and operated as ``running`` says. Raises RequestError.
    """
    given = _given_prices(usd_per_chip_hour, [chip.name for chip in chips], catalog_file)
    today = date.today().isoformat()
    return {
        chip.name: at_user_price(given[chip.name], as_of=today)
        if chip.name in given
        else _known_rates(chip, running or default_running(), owning, catalog_file)
        for chip in chips
    }


def _known_rates(chip: ChipSpec, running: Running, owning: bool, catalog_file: Path | None) -> Rates | str:
    """Rented, or owned with its power in the chip-second, asked for or where nobody rents it out; else why not."""
    try:
        terms = chip_terms(chip, running, owning=owning, catalog_file=catalog_file)
    except SpecError as error:
        return str(error)
    except CatalogError:
        return f"chip {chip.name}: nobody's price is in the catalogue; give yours: --usd-per-chip-hour {chip.name}=USD"
    if terms.tenure is Tenure.OWNED and terms.cost is not None:
        source = terms.rates.source.partition(";")[0]  # what follows says where joules are counted
        return replace(terms.rates, usd_per_chip_s=terms.cost.total, usd_per_j=0.0, source=source)
    return terms.rates


def _given_prices(text: str | None, chips: Sequence[str], catalog_file: Path | None) -> dict[str, float]:
    if text is None:
        return {}
    if "=" not in text:
        return dict.fromkeys(chips, _usd(text))
    given = {}
    for part in text.split(","):
        name, _, usd = part.partition("=")
        chip = catalog.chip(name, catalog_file).name
        if chip not in chips:
            raise RequestError(f"--usd-per-chip-hour {part}: {chip} is none of the chips asked for: {', '.join(chips)}")
        given[chip] = _usd(usd)
    return given


def _usd(text: str) -> float:
    try:
        usd = float(text)
    except ValueError:
        raise RequestError(f"--usd-per-chip-hour {text!r}: write dollars like 2.5, or NAME=2.5 for each chip") from None
    check_price(usd)
    return usd
