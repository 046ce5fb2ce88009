"""A new calibration file: fitted to all rows, its expected errors taken from rows left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from twobills.flows.calibrate import fit
from twobills.flows.validation.left_out import family_of, left_out, log_sigma, source_of
from twobills.flows.validation.rows import ThroughputRow
from twobills.specs.calibration import Calibration, flatten

SPREADS = ("log_sigma", "log_sigma_unseen", "run_low", "run_high")


def refit(rows: Sequence[ThroughputRow], start: Calibration, *, source: str, as_of: str) -> Calibration:
    """Fitted to ``rows``; ``log_sigma`` from leaving out sources, ``log_sigma_unseen`` from leaving out families."""
    found = fit(rows, start)
    return replace(
        found,
        log_sigma=log_sigma(left_out(rows, found, source_of)),
        log_sigma_unseen=log_sigma(left_out(rows, found, family_of)),
        source=source,
        as_of=as_of,
    )


def to_toml(calibration: Calibration) -> str:
    """The file that ``specs.calibration`` reads."""
    head = [
        "# What chips and software achieve of their data sheets; specs/calibration.py says what each number means.",
        f"# {calibration.n_parameters} numbers, fitted by `twobills validate training ... --calibrate FILE`.",
        "",
        "[training]",
    ]
    values = flatten(calibration)
    single = [f"{name} = {value:.4g}" for name, value in values.items() if "." not in name]
    spreads = [f"{name} = {getattr(calibration, name):.4g}" for name in SPREADS]
    cited = [f'source = "{calibration.source}"', f'as_of = "{calibration.as_of}"']
    lines = [*head, *single, *spreads, *cited]
    section = ""
    for name, value in values.items():
        table, _, key = name.partition(".")
        if key and table != section:
            lines += ["", f"[training.{table}]"]
            section = table
        if key:
            lines.append(f"{key} = {value:.4g}")
    return "\n".join(lines) + "\n"
