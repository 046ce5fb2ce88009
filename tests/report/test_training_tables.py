from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from twobills.flows.plan_training import TrainingRequest
from twobills.flows.training_bill import plan_training_document
from twobills.report import training_sentences as sentences
from twobills.report import training_tables as tables
from twobills.report.tables import Table
from twobills.specs.run import JobKind
from twobills.units import show_frac, show_usd

ASKED = TrainingRequest(model="llama-3.1-8b", tokens="1T", chips="h100-sxm:256")
EVERY = {
    "pretrain": ASKED,
    "owned": replace(ASKED, owned=True),
    "lora": replace(ASKED, job=JobKind.LORA, tokens="1B"),
    "distill": replace(ASKED, model="smollm2-135m", job=JobKind.DISTILL, teacher="llama-3.1-8b"),
    "free": replace(ASKED, usd_per_chip_hour=0.0),
    "nothing fails": replace(ASKED, failures=False, evaluation_frac=0.0),
    "one chip": replace(ASKED, model="smollm2-135m", chips="h100-sxm", tokens="1B"),
}


@pytest.fixture(params=EVERY, scope="module")
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    return plan_training_document(EVERY[request.param], with_parts=True)


def cells(table: Table) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in table.rows}


def all_tables(document: dict[str, Any]) -> list[Table]:
    made = [tables.run_table(document), tables.run_bill_table(document), tables.plan_and_memory_table(document)]
    return [*made, tables.split_table(document), tables.step_table(document)]


def test_every_row_has_a_cell_for_each_column(document: dict[str, Any]) -> None:
    for table in all_tables(document):
        assert table.rows
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert not any("nan" in cell or "None" in cell for row in table.rows for cell in row)


def test_the_tables_show_the_documents_figures(document: dict[str, Any]) -> None:
    usd = document["training"]["total_usd"]
    assert cells(tables.run_table(document))["Cost"] == tuple(show_usd(usd[key]) for key in ("p5", "value", "p95"))
    total = cells(tables.run_bill_table(document))["total"]
    assert total[-3:] == tuple(show_usd(usd[key]) for key in ("p5", "value", "p95"))
    assert cells(tables.step_table(document))["one step"][1] == show_frac(1.0)


def test_the_sentence_says_what_it_costs_and_what_would_change_it(document: dict[str, Any]) -> None:
    said = sentences.run_sentence(document)
    assert said.startswith("This is the training bill, paid once to make the model: ")
    assert show_usd(document["training"]["total_usd"]["value"]) in said
    assert "Half the tokens would halve it" in said
    assert "{" not in said


def test_the_other_sentences_are_words(document: dict[str, Any]) -> None:
    said = [
        sentences.split_sentence(document),
        sentences.step_sentence(document["step_parts"]),
        sentences.assumed_sentence(document["assumed"]),
    ]
    assert all(sentence.endswith(".") and "None" not in sentence for sentence in said)


def test_a_lever_is_named_only_if_it_saves() -> None:
    lever = {"change": "training in fp8", "total_usd": 75.0, "saves_usd": 25.0}
    assert "training in fp8 would change it most: $25.00 less (25.0 %)" in sentences.levers_sentence([lever], 100.0)
    worse = {**lever, "saves_usd": -25.0}
    for levers in ([], [worse], [{**lever, "saves_usd": 0.1}]):
        assert sentences.levers_sentence(levers, 100.0).endswith("nothing else that was tried saves much.")


def test_rent_below_cost_is_said() -> None:
    document = plan_training_document(replace(ASKED, usd_per_chip_hour=0.5))
    assert "below what owning such chips is estimated to cost" in sentences.split_sentence(document)


def test_what_is_not_known_is_not_made_up() -> None:
    document = plan_training_document(ASKED)
    training = {**document["training"], "split": None, "split_reason": "nobody knows", "facility_j": None}
    unknown = {**document, "training": training}
    assert sentences.split_sentence(unknown) == "Who gets each dollar cannot be told: nobody knows."
    energy = next(row for row in tables.run_table(unknown).rows if row[0].startswith("Energy"))
    assert energy[1:] == ("–", "not measured", "–")


def test_no_phase_is_named_as_the_largest_and_as_the_rest() -> None:
    failing = plan_training_document(replace(ASKED, mtbf_hours=30.0))
    said = sentences.run_sentence(failing)
    assert "lost to failures, checkpoints and pauses, the rest for learning and checking." in said
    checked = sentences.run_sentence(plan_training_document(replace(ASKED, evaluation_frac=2.0)))
    assert "the rest for learning, checkpoints, failures and pauses." in checked


def test_the_sentence_says_that_hours_are_the_plans_and_what_published_runs_took(document: dict[str, Any]) -> None:
    assert (
        "the hours of the plan as given: published runs took from 16.9 % less to 131 % more."
        in sentences.run_sentence(
            {
                **document,
                "training": {
                    **document["training"],
                    "published_hours_over_forecast": {"p5": 0.831, "p95": 2.306},
                },
            }
        )
    )


def test_a_run_shorter_than_the_time_between_checkpoints_takes_one_at_the_end() -> None:
    short = plan_training_document(replace(ASKED, model="gpt2", tokens="20k", chips="h100-sxm"))
    assert cells(tables.plan_and_memory_table(short))["Checkpoints"][0].endswith("at the end")
    long = plan_training_document(ASKED)
    assert " every " in cells(tables.plan_and_memory_table(long))["Checkpoints"][0]
