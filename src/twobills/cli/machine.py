"""``twobills machine``: what you sit at."""

from __future__ import annotations

from twobills.cli.options import AsJson, ChipHourPrice
from twobills.cli.runtime import restart_with_settings


def machine(usd_per_chip_hour: ChipHourPrice = None, as_json: AsJson = False) -> None:
    """Measure this machine: product rate per number format, memory bandwidth, power counters, price."""
    restart_with_settings()
    from twobills.cli.run_screen import show_machine
    from twobills.cli.screen import print_json
    from twobills.flows.machine import find_machine, machine_to_json, measure_machine

    document = machine_to_json(measure_machine(find_machine(usd_per_chip_hour)))
    if as_json:
        print_json(document)
    else:
        show_machine(document)
