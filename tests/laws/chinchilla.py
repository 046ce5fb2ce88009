"""Hoffmann's points as Besiroglu et al. 2024 read them off, where the shared data is at hand."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import tests.laws.scipy_or_skip  # noqa: F401
from tests import shared_data
from twobills.flows.laws_runs import csv_runs
from twobills.laws.fit import Fit, fit
from twobills.laws.runs import Runs, without_worst

POINTS = Path("chinchilla") / "svg_extracted_data.csv"


def path() -> Path:
    return shared_data.FOLDER / POINTS


@cache
def runs() -> Runs:
    """The 240 points that the replication keeps."""
    return without_worst(csv_runs(path()), 5)


@cache
def best() -> Fit:
    return fit(runs())
