from __future__ import annotations

import pytest

from twobills.errors import CatalogError
from twobills.laws.forms import Law
from twobills.laws.published import FORMS, published, published_law, published_laws, read_law
from twobills.specs.catalog import read_rows


def test_every_form_is_in_the_catalogue() -> None:
    assert {row.form for row in published_laws().values()} == set(FORMS)
    for row in published_laws().values():
        assert isinstance(row.law, FORMS[row.form])


def test_what_was_only_recalled_is_marked() -> None:
    """The research notes: Gadre's and Kumar's constants and Kaplan's joint form were not read again."""
    recalled = {name for name, row in published_laws().items() if not row.verified}
    assert recalled == {"kaplan-2020", "kumar-2024", *(n for n in published_laws() if n.startswith("gadre-2024"))}


def test_only_laws_of_size_and_data_answer_for_both() -> None:
    with pytest.raises(CatalogError, match="law 'kaplan-2020': not in the catalogue; it has besiroglu-2024"):
        published_law("kaplan-2020")
    assert isinstance(published("kaplan-2020").law, FORMS["kaplan"])
    with pytest.raises(CatalogError, match="law 'moore': not in the catalogue"):
        published("moore")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delta": 1}, "unknown key 'delta'"),
        ({"form": "cubic"}, "form='cubic': not one of additive"),
        ({"alpha": -0.3}, "alpha=-0.3: must be a number above 0"),
    ],
)
def test_a_row_that_breaks_the_rules_is_named(change: dict[str, object], message: str) -> None:
    row = {**read_rows("laws")["besiroglu-2024"], **change}
    with pytest.raises(CatalogError, match=message):
        read_law("mine", row)


def test_a_row_without_its_constant_is_named() -> None:
    row = {key: value for key, value in read_rows("laws")["hoffmann-2022"].items() if key != "beta"}
    with pytest.raises(CatalogError, match=r"laws.toml: mine: beta is missing"):
        read_law("mine", row)


def test_the_covariance_belongs_to_the_law() -> None:
    law = published("besiroglu-2024").law
    assert isinstance(law, Law)
    assert law.covariance is not None
    assert "ours" in published("besiroglu-2024").covariance_source
