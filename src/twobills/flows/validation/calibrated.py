"""What ``twobills validate training`` writes: the accuracy page, and a calibration fitted anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from twobills.errors import RequestError
from twobills.flows.calibrate_serving import refit_serving, serving_toml
from twobills.flows.validation.accuracy import accuracy_page
from twobills.flows.validation.document import Validated
from twobills.flows.validation.peer import Peer
from twobills.flows.validation.refit import refit, to_toml
from twobills.flows.validation.rows import read_table
from twobills.specs.calibration import Calibration
from twobills.specs.serving_calibration import ServingCalibration, published_serving_calibration


def write_page(
    files: Sequence[Validated],
    calibration: Calibration,
    path: Path,
    *,
    served: Sequence[Validated] = (),
    serving_calibration: ServingCalibration | None = None,
    peers: Sequence[Peer] = (),
) -> None:
    """The accuracy page of these tables. Raises RequestError if none of ``files`` is of training throughput."""
    _need_throughput(files)
    serving_calibration = serving_calibration or published_serving_calibration()
    page = accuracy_page(files, calibration, served, serving_calibration, peers)
    path.write_text(page, encoding="utf-8")


def write_calibration(files: Sequence[Validated], start: Calibration, path: Path) -> Calibration:
    """Fits to the tables of throughput, takes a run's spread from those of whole runs; returns what it wrote."""
    _need_throughput(files)
    rows = [row for file in files for row in file.rows]
    runs = [row for file in files if file.is_runs for row in read_table(file.path)]
    names = ", ".join(file.path.name for file in files)
    n_sources = len({row.source for row in rows})
    source = f"{len(rows)} rows of {n_sources} sources in {names}; docs/accuracy.md"
    found = refit(rows, runs, start, source=source, as_of=date.today().isoformat())
    path.write_text(to_toml(found), encoding="utf-8")
    return found


def write_serving_calibration(files: Sequence[Validated], start: ServingCalibration, path: Path) -> ServingCalibration:
    """Fits to the tables of serving measurements; returns what it wrote. Leaving sources out takes minutes."""
    rows = [row for file in files for row in file.served]
    names = ", ".join(file.path.name for file in files)
    source = f"{len(rows)} rows of {len({row.source for row in rows})} sources in {names}; docs/accuracy.md"
    found = refit_serving(rows, start, source=source, as_of=date.today().isoformat())
    path.write_text(serving_toml(found), encoding="utf-8")
    return found


def _need_throughput(files: Sequence[Validated]) -> None:
    if all(file.is_runs for file in files):
        raise RequestError("FILE: at least one table of throughput is needed, to fit and to leave rows out")
