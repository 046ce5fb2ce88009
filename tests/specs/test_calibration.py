from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import CatalogError
from twobills.specs import catalog
from twobills.specs.calibration import Calibration, flatten, published_calibration, unflatten

PUBLISHED = published_calibration()
FRACTIONS = ("matmul_frac", "attention_frac", "bandwidth_frac", "link_frac", "network_frac", "data_overlap")


def test_at_most_fifteen_numbers_are_fitted() -> None:
    assert PUBLISHED.n_parameters == len(flatten(PUBLISHED)) <= 15


def test_keys_are_families_and_stacks_never_chips_or_models() -> None:
    families = {chip.family for chip in catalog.chips().values()}
    assert set(PUBLISHED.matmul_frac) | set(PUBLISHED.attention_frac) <= families
    assert set(PUBLISHED.passes) == {"eager", "fused"}
    names = {*catalog.chips(), *catalog.models()}
    assert not names & {name.rpartition(".")[2] for name in flatten(PUBLISHED)}


def test_what_is_achieved_is_a_part_of_the_data_sheet() -> None:
    for name, value in flatten(PUBLISHED).items():
        assert value > 0, name
        if name.partition(".")[0] in FRACTIONS:
            assert value < 1, name
    assert min(PUBLISHED.passes.values()) >= 1, "nothing moves less than the least possible"
    assert PUBLISHED.tuned_attention >= 1


def test_a_family_that_was_not_fitted_has_the_wider_interval() -> None:
    assert PUBLISHED.log_sigma_unseen > PUBLISHED.log_sigma > 0


@given(st.lists(st.floats(1e-9, 1e9), min_size=15, max_size=15))
def test_fitted_numbers_go_through_a_flat_list_unchanged(values: list[float]) -> None:
    changed = dict(zip(flatten(PUBLISHED), values, strict=True))
    again = Calibration(**unflatten(changed, PUBLISHED))
    assert flatten(again) == changed
    assert (again.log_sigma, again.source, again.as_of) == (PUBLISHED.log_sigma, PUBLISHED.source, PUBLISHED.as_of)


@pytest.mark.parametrize(
    "damage",
    [lambda text: text.replace("bandwidth_frac", "bandwith_frac"), lambda text: text.replace("half_rate_s", "#")],
    ids=["a key that is not known", "a number that is missing"],
)
def test_a_damaged_file_is_named(damage: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resources.files("twobills.data").joinpath("calibration.toml").read_text(encoding="utf-8")
    (tmp_path / "calibration.toml").write_text(damage(whole), encoding="utf-8")
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)
    with pytest.raises(CatalogError, match=r"^calibration\.toml: "):
        published_calibration.__wrapped__()
