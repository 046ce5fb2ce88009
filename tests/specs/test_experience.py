from __future__ import annotations

import json
import math

import pytest

from twobills.errors import SpecError
from twobills.specs.experience import Experience, JobExperience, Part

TRAINING = JobExperience(n_runs=3, slower={Part.STEP: 1.25}, log_sigma=0.1, assumed_log_sigma=0.2)


def test_a_part_nobody_learned_anything_of_is_as_forecast() -> None:
    experience = Experience(training=TRAINING)
    assert experience.slower(Part.STEP) == 1.25
    assert experience.slower(Part.DECODE) == 1.0
    assert Experience().slower(Part.STEP) == 1.0


@pytest.mark.parametrize("experience", [Experience(), Experience(training=TRAINING), Experience(inference=TRAINING)])
def test_it_is_plain_json(experience: Experience) -> None:
    assert Experience.from_json(json.loads(json.dumps(experience.to_json()))) == experience


@pytest.mark.parametrize(("factor", "log_sigma"), [(0.0, 0.1), (-1.0, 0.1), (math.inf, 0.1), (1.0, 0.0)])
def test_nonsense_is_refused(factor: float, log_sigma: float) -> None:
    with pytest.raises(SpecError, match="must be a number above 0"):
        JobExperience(n_runs=3, slower={Part.STEP: factor}, log_sigma=log_sigma, assumed_log_sigma=0.2)
