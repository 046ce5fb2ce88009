"""Where every input of a run's figures comes from: measured, sourced, declared or assumed."""

from __future__ import annotations

from typing import Any

from twobills.flows.machine import MeasuredMachine
from twobills.flows.training_job import BYTES_PER_TOKEN
from twobills.laws.forms import Law
from twobills.plan.inference import STREAM_S_PER_TOKEN
from twobills.plan.training import PREPARE_BYTES_PER_S
from twobills.units import per_s_to_per_hour, show_bytes, show_seconds, show_usd


def provenance(machine: MeasuredMachine, law: Law, *, startup_s: float) -> list[dict[str, Any]]:
    """One row per input: what, value, how it is known, source, date."""
    found, efficiency = machine.found, machine.spec.efficiency
    rates, power = found.rates, found.power_reader()
    priced = "assumed" if rates.assumed else "sourced"
    return [
        _row("tokens and seconds", "counted and timed", "measured", "the meter, on this machine"),
        _row(
            "FLOPs",
            "counted from the kernels and shapes that ran",
            "measured",
            "PyTorch's counter; engine's shapes",
        ),
        _row(
            "bytes",
            "counted from the operations that ran",
            "estimated",
            "no counter of memory traffic is read",
        ),
        _row("joules", power.name, power.stamp.value, found.chip.source, found.chip.as_of),
        _row(
            "price of a chip-hour",
            show_usd(per_s_to_per_hour(rates.usd_per_chip_s)),
            priced,
            rates.source,
            rates.as_of,
        ),
        _row(
            "speed of operations",
            "timed one by one before the plan",
            efficiency.source.value,
            "this machine, this run",
        ),
        _row(
            "forecast error",
            f"log-normal, sigma {efficiency.log_sigma:g}",
            "assumed",
            "until runs here calibrate it",
        ),
        _row("size and tokens", law.name, "sourced", f"{law.source}; extrapolated far below its range"),
        _row("planned bytes per token", f"{BYTES_PER_TOKEN:g}", "assumed", "the tokenizer does not exist yet"),
        _row(
            "speed of tokenising",
            show_bytes(PREPARE_BYTES_PER_S) + "/s",
            "assumed",
            "not measured before the plan",
        ),
        _row(
            "streaming a token",
            show_seconds(STREAM_S_PER_TOKEN),
            "assumed",
            "host work beside the engine's steps",
        ),
        _row("server start and stop", show_seconds(startup_s), "assumed", "planned as idle"),
        _row("life of the model", "constant demand and prices", "assumed", "growth and price decline left out"),
    ]


def _row(what: str, value: str, how: str, source: str, as_of: str = "") -> dict[str, Any]:
    return {"what": what, "value": value, "how": how, "source": source, "as_of": as_of}
