"""``twobills laws`` as a user meets it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.laws import chinchilla, sweeps
from tests.shared_data import needs_shared_data
from twobills.cli.app import app
from twobills.flows.laws_runs import csv_runs
from twobills.laws.approaches import isoflops
from twobills.laws.published import published_law
from twobills.laws.runs import Runs
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.units import show_count

runner = CliRunner()
TRUTH = published_law("besiroglu-2024")


def asked(*words: str) -> Any:
    """The JSON document of ``twobills laws …``."""
    done = runner.invoke(app, ["laws", *words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def written(path: Path, runs: Runs, header: str = "params,flops,loss") -> Path:
    rows = zip(runs.n_params, runs.compute_flops, runs.loss, strict=True)
    path.write_text("\n".join([header, *(f"{n!r},{c!r},{y!r}" for n, c, y in (map(float, row) for row in rows))]))
    return path


def refused(*words: str) -> str:
    done = runner.invoke(app, ["laws", *words])
    assert done.exit_code == 1
    message = str(done.exception)
    assert message
    assert "\n" not in message
    return message


@needs_shared_data
def test_the_issues_fit_has_the_issues_keys() -> None:
    """The bars of Besiroglu et al. 2024 through the command line; bootstraps fewer than the 4,000 of the paper."""
    found = asked("fit", str(chinchilla.path()), "--drop-worst", "5", "--bootstraps", "100")
    names = {"A", "B", "E", "alpha", "beta"}
    assert found["objective"] <= 0.0010183
    assert set(found["parameters"]) == names
    assert set(found["standard_errors"]) == names
    assert abs(found["parameters"]["E"] - 1.8172) < 0.005
    assert found["optimum"]["a"] == pytest.approx(0.513, abs=0.005)
    assert 17 < found["optimum"]["tokens_per_parameter"] < 20
    assert found["optimum"]["compute_flops"] == 5.76e23
    assert found["against"]["hoffmann-2022-rounded"]["p_value"] < 1e-100
    assert found["verdict"]["extrapolates"]


def test_a_fit_speaks_and_can_be_asked_again(tmp_path: Path) -> None:
    table = written(tmp_path / "runs.csv", sweeps.sweep(TRUTH, noise=0.002))
    done = runner.invoke(app, ["laws", "fit", str(table), "--bootstraps", "40"])
    assert done.exit_code == 0, done.output
    assert "35 runs of 29 sizes: the loss cannot fall below 1.8" in " ".join(done.stdout.split())
    kept = tmp_path / "fit.json"
    kept.write_text(json.dumps(asked("fit", str(table), "--bootstraps", "40", "--compute", "1e20")))
    document = json.loads(kept.read_text())
    again = asked("optimum", "--compute", "1e20", "--law", str(kept))
    assert again["n_params"]["value"] == pytest.approx(document["optimum"]["n_params"])
    assert again["n_params"]["p5"] < again["n_params"]["value"] < again["n_params"]["p95"]


def test_without_a_minimum_nothing_is_extrapolated(tmp_path: Path) -> None:
    table = written(tmp_path / "runs.csv", sweeps.sweep(TRUTH, factors=(1.5, 2, 3, 5, 8)))
    found = asked("fit", str(table), "--bootstraps", "0")
    assert found["optimum"]["tokens_per_parameter"] is None
    assert "not extrapolated" in found["optimum"]["reason"]
    assert "at 1e+18 FLOPs: sizes of" in found["optimum"]["reason"]
    assert found["standard_errors"]["E"] is None
    kept = tmp_path / "fit.json"
    kept.write_text(json.dumps(found))
    assert "its runs show no minimum" in refused("optimum", "--compute", "1e20", "--law", str(kept))


def test_other_column_names(tmp_path: Path) -> None:
    table = written(tmp_path / "runs.csv", sweeps.sweep(TRUTH), header="Größe,cost,end")
    message = refused("fit", str(table))
    assert "no column for loss among Größe, cost, end" in message
    assert "--columns params=SIZE" in message
    found = asked("fit", str(table), "--bootstraps", "0", "--columns", "params=Größe,flops=cost,loss=end")
    assert found["n_runs"] == 35
    assert "no such column" in refused("fit", str(table), "--columns", "params=x")
    assert "write QUANTITY=COLUMN" in refused("fit", str(table), "--columns", "x")


def test_what_is_no_number_is_named_with_its_line(tmp_path: Path) -> None:
    table = tmp_path / "runs.csv"
    table.write_text("N,D,loss\n1e8,1e9,3\n1e8,2e9,oops\n")
    assert "runs.csv, line 3: loss='oops': not a number" in refused("fit", str(table))
    assert "not a readable CSV file" in refused("fit", str(tmp_path / "none.csv"))
    table.write_text("N,D,loss\n")
    assert "holds no rows" in refused("fit", str(table))
    assert "--bootstraps 1" in refused("fit", str(table), "--bootstraps", "1")


def test_plots_are_written_both_ways(tmp_path: Path) -> None:
    table = written(tmp_path / "runs.csv", sweeps.sweep(TRUTH, noise=0.002))
    done = runner.invoke(app, ["laws", "fit", str(table), "--bootstraps", "0", "--plots", str(tmp_path / "plots")])
    assert done.exit_code == 0, done.output
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {f"{name}{kind}" for name in ("isoflops", "contours", "residuals") for kind in (".svg", ".png")}
    assert "<svg" in (tmp_path / "plots" / "contours.svg").read_text()[:5000]


def test_the_ledgers_runs(tmp_path: Path) -> None:
    path, runs = tmp_path / "ledger.sqlite", sweeps.sweep(TRUTH)
    ledger = Ledger(path)
    for n_params, n_tokens, loss in zip(runs.n_params, runs.n_tokens, runs.loss, strict=True):
        run_id = ledger.start("train", {"data": "stories"})
        body = {"model": {"n_params": float(n_params), "vocab_size": 256}, "training": {"n_tokens": float(n_tokens)}}
        ledger.result(run_id, {**body, "quality": {"heldout_nats_per_token": float(loss)}})
        ledger.end(run_id, Outcome.DONE)
    ledger.start("train", {"data": "stories"})  # still running: left out
    found = asked("fit", "ledger", "--ledger", str(path), "--bootstraps", "0")
    assert found["n_runs"] == 35
    assert abs(found["parameters"]["alpha"] - TRUTH.alpha) < 1e-3
    run_id = ledger.start("train", {"data": "python"})
    ledger.result(run_id, {**body, "quality": {"heldout_nats_per_token": 3.0}})
    ledger.end(run_id, Outcome.DONE)
    assert "several data sets or vocabularies are not comparable" in refused("fit", "ledger", "--ledger", str(path))
    found = asked("fit", "ledger", "--ledger", str(path), "--bootstraps", "0", "--data", "stories")
    assert found["n_runs"] == 35
    assert "no finished training run of data 'x'" in refused("fit", "ledger", "--ledger", str(path), "--data", "x")


def test_of_one_data_set_with_two_vocabularies_the_refusals_own_words_choose_one(tmp_path: Path) -> None:
    path, runs = tmp_path / "ledger.sqlite", sweeps.sweep(TRUTH)
    ledger = Ledger(path)
    for vocab_size, n_runs in ((256, 35), (512, 20)):
        for n_params, n_tokens, loss in list(zip(runs.n_params, runs.n_tokens, runs.loss, strict=True))[:n_runs]:
            run_id = ledger.start("train", {"data": "old stories"})
            model = {"n_params": float(n_params), "vocab_size": vocab_size}
            body = {"model": model, "training": {"n_tokens": float(n_tokens)}}
            ledger.result(run_id, {**body, "quality": {"heldout_nats_per_token": float(loss)}})
            ledger.end(run_id, Outcome.DONE)
    fit = ("fit", "ledger", "--ledger", str(path), "--bootstraps", "0")
    for given in ((), ("--data", "old stories")):
        choices = refused(*fit, *given).partition("choose one: ")[2].split(", ")
        assert len(choices) == 2
        for choice, n_runs in zip(choices, (35, 20), strict=True):
            words, told, _ = choice.partition(f" ({n_runs} runs)")
            assert told
            assert asked(*fit, *shlex.split(words))["n_runs"] == n_runs
    assert asked(*fit, "--vocab-size", "512")["n_runs"] == 20
    assert "of data 'old stories' with a vocabulary of 99 with a held-out loss" in refused(
        *fit, "--data", "old stories", "--vocab-size", "99"
    )


@pytest.mark.parametrize("option", ["--data", "--vocab-size"])
def test_what_chooses_among_the_ledgers_runs_is_refused_beside_a_file(tmp_path: Path, option: str) -> None:
    path = written(tmp_path / "runs.csv", sweeps.sweep(TRUTH))
    assert refused("fit", str(path), option, "256").startswith(f"{option}: chooses among the ledger's runs")


def test_list_tells_what_was_read() -> None:
    laws = {each["name"]: each for each in asked("list")["laws"]}
    assert laws["kumar-2024"]["verified"] is False
    assert laws["hoffmann-2022"]["constants"]["alpha"] == 0.33917084
    assert runner.invoke(app, ["laws", "list"]).exit_code == 0


def test_optimum_of_a_budget_a_loss_and_a_size() -> None:
    budget = asked("optimum", "--compute", "1e21")
    assert budget["n_params"]["value"] == pytest.approx(2.782e9, rel=1e-3)
    assert budget["outside"] is None
    loss = asked("optimum", "--loss", str(budget["loss"]["value"]))
    assert loss["compute_flops"]["value"] == pytest.approx(1e21, rel=1e-6)
    half = asked("optimum", "--loss", str(budget["loss"]["value"]), "--params", "1.391e9")
    assert half["compute_flops"]["value"] > 1e21
    assert "parameters are above the most" in asked("optimum", "--compute", "1e24")["outside"]
    assert runner.invoke(app, ["laws", "optimum", "--compute", "1e21"]).exit_code == 0


def test_kaplan_is_told_in_all_parameters() -> None:
    found = asked("optimum", "--compute", "1e21", "--law", "kaplan-2020")
    assert found["n_params_non_embedding"] == pytest.approx(4.68e9, rel=2e-3)
    assert found["n_params"]["value"] > found["n_params_non_embedding"]
    assert found["loss"]["value"] is None
    done = runner.invoke(app, ["laws", "optimum", "--compute", "1e21", "--law", "kaplan-2020"])
    assert done.exit_code == 0, done.output


def test_what_no_data_reaches_is_one_line() -> None:
    assert "no model and no amount of data" in refused("optimum", "--loss", "1.8")
    assert "no amount of data reaches loss 2" in refused("optimum", "--loss", "2", "--params", "1e9")
    assert "one of --compute FLOPS and --loss" in refused("optimum")
    assert "--params: goes with --loss" in refused("optimum", "--compute", "1e20", "--params", "1e9")
    assert "law 'moore'" in refused("optimum", "--compute", "1e20", "--law", "moore")


def test_the_catalogue_is_audited() -> None:
    models = {each["model"]: each for each in asked("audit")["models"]}
    for name in ("gpt3-175b", "gopher-280b", "mt-nlg-530b"):
        assert "too big for its data" in models[name]["verdict"], name
    assert models["llama-3-8b"]["verdict"] == "far over-trained"
    assert all(each["tokens_source"] for each in models.values())
    assert models["deepseek-v3"]["is_mixture"]
    assert runner.invoke(app, ["laws", "audit", "llama-3-8b"]).exit_code == 0


def test_a_model_of_ones_own_is_audited() -> None:
    (found,) = asked("audit", "--params", "70e9", "--tokens", "1.4T", "--law", "besiroglu-2024")["models"]
    assert found["verdict"] == "near the optimum"
    assert found["tokens_per_param"] == 20
    (found,) = asked("audit", "qwen3-8b", "--tokens", "36T")["models"]
    assert found["verdict"] == "far over-trained"
    assert "give them with --tokens" in refused("audit", "qwen3-8b")
    assert "--tokens: goes with one MODEL" in refused("audit", "--tokens", "1T")
    assert "--params: goes with --tokens" in refused("audit", "--params", "1e9")


def test_our_own_sweep_is_what_its_docs_say_of_it() -> None:
    """The committed run table: whole budgets, a minimum within each curve, and the one that ``docs/laws.md`` prints."""
    repository = Path(__file__).parents[2]
    (table,) = (repository / "benchmarks" / "results").glob("sweep_*.csv")
    runs = csv_runs(table)
    n_runs = [int(np.sum(np.isclose(runs.compute_flops, budget, rtol=0.01))) for budget in (1e12, 3e12, 1e13, 3e13)]
    assert n_runs == [5] * 4
    assert np.all(runs.compute_flops > 6 * runs.n_params * runs.n_tokens)  # attention counts too
    curves = isoflops(runs)
    assert [curve.side for curve in curves] == ["within"] * 4
    text = (repository / "docs" / "laws.md").read_text()
    assert table.name in text
    best_params, best_loss = curves[-1].best_params, curves[-1].best_loss
    assert best_params is not None
    assert best_loss is not None
    assert f"| {show_count(best_params)} |" in text
    assert f"| {best_loss:.3f} |" in text
