"""How a machine's own runs correct its forecasts: learned from the ledger, kept in it, read by the next plan.

Each part of a job (``specs.experience``) gets the median of measured over forecast seconds as its factor: one run
beside a busy neighbour does not move it. The spread that is left counts what was assumed before as one more run,

    s^2 = (sigma_assumed^2 + sum of squared ln(measured / corrected forecast)) / n

and is widened for so few runs: by Student's t with n degrees of freedom over the normal's quantile, and by
sqrt(1 + pi / 2n) for a location that is itself a median of n (Gelman et al. 2013, "Bayesian Data Analysis", sections
2.6 and 3.2, for a scaled inverse chi-square prior worth one observation). So three runs mostly move a forecast, and
ten that agree narrow it. Whether that is honest is judged by leaving each run out in turn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from twobills.errors import LedgerError
from twobills.ledger.record import RecordKind
from twobills.ledger.store import Ledger
from twobills.ledger.timed_runs import Z95, Machine, TimedRun
from twobills.specs.experience import Experience, JobExperience, Part

MIN_RUNS = 3
MAX_RUNS = 20
"""Only the newest count, so that what has changed since (software, neighbours) is forgotten."""
LEAST_LOG_SIGMA = 0.03
"""No forecast is called surer than this, however well the runs agree."""
_T95 = (
    *(6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812),
    *(1.796, 1.782, 1.771, 1.761, 1.753, 1.746, 1.740, 1.734, 1.729, 1.725),
)
"""Student's t, 95th percentile, for 1 to ``MAX_RUNS`` degrees of freedom."""


class HeldOut(NamedTuple):
    """One run, forecast without any calibration and by one that learned from the other runs only."""

    run: TimedRun
    others: JobExperience

    @property
    def before_s(self) -> float:
        """The forecast without calibration, of the work that was done."""
        return self.run.forecast_s({})

    @property
    def after_s(self) -> float:
        """The forecast by the other runs."""
        return self.run.forecast_s(self.others.slower)

    @property
    def covered_before(self) -> bool:
        """Whether the assumed 5-95 % interval held the run."""
        return _covered(self.run.measured_s / self.before_s, self.run.assumed_log_sigma)

    @property
    def covered_after(self) -> bool:
        """Whether the other runs' 5-95 % interval held it."""
        return _covered(self.run.measured_s / self.after_s, self.others.log_sigma)


def learn(runs: Sequence[TimedRun]) -> JobExperience:
    """What these runs of one job on one machine say of its forecasts."""
    if not runs or len(runs) > MAX_RUNS:
        raise LedgerError(f"n_runs={len(runs)}: must be between 1 and {MAX_RUNS}")
    slower = {part: _factor(runs, part) for part in Part if any(part in run.parts for run in runs)}
    assumed = runs[-1].assumed_log_sigma
    return JobExperience(
        n_runs=len(runs),
        slower=slower,
        log_sigma=_log_sigma([math.log(run.measured_s / run.forecast_s(slower)) for run in runs], assumed),
        assumed_log_sigma=assumed,
    )


def hold_out(runs: Sequence[TimedRun]) -> list[HeldOut]:
    """Each run beside what the others would have said of it."""
    return [HeldOut(run, learn([*runs[:i], *runs[i + 1 :]])) for i, run in enumerate(runs)]


def keep(ledger: Ledger, machine: Machine, experience: Experience, run_ids: Sequence[str]) -> None:
    """Adds a calibration to the ledger; the newest of a machine is the one that plans use."""
    body = {"machine": machine._asdict(), "experience": experience.to_json(), "run_ids": list(run_ids)}
    ledger.append(f"calibration of {machine}", RecordKind.CALIBRATION, body)


def kept(ledger: Ledger) -> dict[Machine, Experience]:
    """What is in force, by machine; a machine whose calibration was forgotten is not here."""
    found: dict[Machine, Experience] = {}
    for record in ledger.calibrations():
        found[Machine(**record.body["machine"])] = Experience.from_json(record.body["experience"])
    return {machine: experience for machine, experience in found.items() if experience != Experience()}


def _factor(runs: Sequence[TimedRun], part: Part) -> float:
    seconds = [run.parts[part] for run in runs if part in run.parts]
    return math.exp(median(math.log(s.measured / s.forecast) for s in seconds))


def _log_sigma(misses: Sequence[float], assumed: float) -> float:
    n = len(misses)
    spread = math.sqrt((assumed**2 + sum(miss**2 for miss in misses)) / n)
    widened = spread * _T95[n - 1] / Z95 * math.sqrt(1 + math.pi / (2 * n))
    return max(LEAST_LOG_SIGMA, widened)


def _covered(measured_over_forecast: float, log_sigma: float) -> bool:
    return abs(math.log(measured_over_forecast)) <= Z95 * log_sigma
