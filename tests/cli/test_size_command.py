"""``twobills size`` as a user meets it: the issue's command, its bars, and one line for every mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from twobills.cli.app import app
from twobills.cli.size import size

runner = CliRunner()
CHIPS = ("--train-chips", "h100-sxm", "--serve-chips", "h200")
ISSUE = ("--quality-of", "llama-3-8b", "--answers", "1e12", "--answer-tokens", "300", "--prompt-tokens", "1000", *CHIPS)


def asked(*words: str) -> Any:
    done = runner.invoke(app, ["size", *words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def found() -> Any:
    return asked(*ISSUE)


def test_the_issues_command_answers_in_flops_and_in_dollars(found: Any) -> None:
    assert found["demand"]["inference_tokens"] == 1.3e15
    for part, bills in (("in_flops", "flops"), ("in_dollars", "usd")):
        answer = found[part]
        for name in ("n_params", "n_tokens", f"train_{bills}", f"inference_{bills}", f"total_{bills}"):
            assert answer[name]["p5"] <= answer[name]["value"] <= answer[name]["p95"]
        both = answer[f"train_{bills}"]["value"] + answer[f"inference_{bills}"]["value"]
        assert answer[f"total_{bills}"]["value"] == pytest.approx(both)
        low, high = answer["near_best_n_params"]
        assert low <= answer["n_params"]["value"] <= high
        assert "besiroglu-2024 was fitted on" in answer["outside"]


def test_a_smaller_longer_trained_model_is_the_answer(found: Any) -> None:
    """At 1.3e15 tokens even Llama 3 8B is too big for its loss: inference is most of the bill."""
    for part in ("in_flops", "in_dollars"):
        assert found[part]["n_params"]["value"] < 8.03e9
        assert found[part]["n_tokens"]["value"] > 15e12
    assert found["in_dollars"]["inference_share"] > 0.5


def test_it_says_why_the_two_differ_or_that_they_do_not(found: Any) -> None:
    why = found["disagreement"]
    assert why["words"]
    assert why["serve_over_train"] > 0
    other = asked("--quality-of", "llama-3-8b", "--answers", "1e10", *CHIPS)["disagreement"]
    assert other["disagree"]
    assert any("a FLOP of serving costs" in words for words in other["words"])


def test_the_grid_is_as_large_as_the_issue_asks(found: Any) -> None:
    points = found["grid"]
    counted = points["n_sizes"] * points["n_tokens_each"] * points["n_train_offers"] * points["n_serve_formats"]
    assert points["n_points"] == counted
    assert points["n_points"] >= 100_000


def test_it_shows_from_which_demand_llama_3_8b_pays(found: Any) -> None:
    """By hand: 6 (8.03e9 x 15e12 - 33.9e9 x 645e9) / (2 (33.9e9 - 8.03e9)) = 1.14e13; dollars within a factor of 3."""
    pays = found["pays"]
    in_flops, in_dollars = pays["in_flops"], pays["in_dollars"]
    assert in_flops["pays_from_tokens"]["value"] == pytest.approx(1.14e13, rel=0.02)
    assert in_flops["pays_from_answers"] == pytest.approx(in_flops["pays_from_tokens"]["value"] / 1300)
    assert in_flops["best_at_answers"] > in_flops["pays_from_answers"]
    assert 1 / 3 < in_dollars["pays_from_answers"] / in_flops["pays_from_answers"] < 3
    assert in_dollars["near_best_from_answers"] < in_dollars["near_best_to_answers"] < 1e12


def test_options_are_compared_and_what_is_missing_has_a_reason(found: Any) -> None:
    options = {each["label"]: each for each in found["options"]}
    assert {"as_is", "quantised", "distilled", "repeated", "samples"} == {each["kind"] for each in found["options"]}
    assert options["as it is"]["total_usd"] == pytest.approx(found["in_dollars"]["total_usd"]["value"])
    for each in found["options"]:
        assert (each["total_usd"] is None) == ("reason" in each)
    assert any("recalled" in words for words in found["assumed"])


def unexplained(part: Any, path: str = "", above: bool = False) -> list[str]:
    """Nulls with no reason beside them, nor above where they are the ends of an interval."""
    if isinstance(part, list):
        return [name for i, each in enumerate(part) for name in unexplained(each, f"{path}[{i}]", above)]
    if not isinstance(part, dict):
        return []
    here = "reason" in part or "near_best_reason" in part or (above and set(part) == {"value", "p5", "p95"})
    nulls = [] if here else [f"{path}.{name}" for name, value in part.items() if value is None and name != "outside"]
    return nulls + [name for key, each in part.items() for name in unexplained(each, f"{path}.{key}", here)]


@pytest.mark.parametrize(
    "words",
    [
        (*ISSUE,),
        ("--quality-of", "llama-3-8b", *CHIPS),
        ("--quality-of", "llama-3-70b", "--tokens", "1e12", "--answers", "1e15", *CHIPS),
        ("--loss", "2.2", "--answers", "1e9", "--law", "sardana-2023", "--unique-tokens", "1e10", *CHIPS),
        ("--loss", "2.2", "--answers", "1e9", "--unique-tokens", "1e12", *CHIPS),
        ("--quality-of", "llama-3-70b", "--answers", "1e9", "--train-chips", "h100-sxm", "--serve-chips", "rtx-4090:8"),
        ("--quality-of-params", "13e9", "--answers", "1e9", "--train-chips", "h100-sxm", "--serve-chips", "rtx-4090:1"),
    ],
    ids=["issue", "no demand", "too large", "no covariance", "repeats", "known does not fit", "best does not fit"],
)
def test_what_is_null_has_a_reason_beside_it(words: tuple[str, ...]) -> None:
    assert unexplained(asked(*words)) == []


def test_figures_of_one_way_are_told_of_it_alone(found: Any) -> None:
    for each in found["options"]:
        if "reason" in each:
            continue
        assert ("teacher_usd" in each) == (each["kind"] == "distilled")
        assert "epochs" not in each, "nothing was said of repeats"
        assert None not in each.values()


def test_reasons_fit_what_they_explain() -> None:
    document = asked("--quality-of-params", "13e9", "--train-chips", "h100-sxm", "--serve-chips", "h200")
    assert document["disagreement"]["serve_over_train"] is None
    assert document["disagreement"]["reason"] == "nothing is to be answered, so serving costs nothing"
    assert document["quality"]["reason"] == document["pays"]["reason"] == "no model was named (--quality-of)"


def test_no_demand_is_the_compute_optimal_model() -> None:
    document = asked("--quality-of-params", "13e9", *CHIPS)
    assert document["in_flops"]["n_params"]["value"] == pytest.approx(13e9, rel=1e-4)
    assert document["in_flops"]["saving_over_compute_optimal_frac"] == pytest.approx(0, abs=1e-9)
    assert document["in_dollars"]["inference_usd"]["value"] == 0


def test_sardanas_case_through_the_command() -> None:
    """30B quality for 1e13 tokens: 13.6B on 4.43T, 28 % fewer FLOPs (section 2)."""
    words = ("--quality-of-params", "30e9", "--law", "sardana-2023", "--answers", "1e10", "--prompt-tokens", "700")
    document = asked(*words, "--answer-tokens", "300", *CHIPS)["in_flops"]
    assert document["n_params"]["value"] == pytest.approx(13.6e9, rel=0.02)
    assert document["n_tokens"]["value"] == pytest.approx(2.84 * 1.556e12, rel=0.02)
    assert document["saving_over_compute_optimal_frac"] == pytest.approx(0.28, rel=0.02)
    assert document["n_params"]["p5"] is None
    assert document["reason"] == "the law has no covariance"


def test_the_table_names_the_best_first() -> None:
    done = runner.invoke(app, ["size", "--loss", "2.2", "--answers", "1e9", *CHIPS], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("To be as good as loss 2.200")
    assert "best in dollars" in done.stdout
    assert "Assumed:" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (CHIPS, "give one of --quality-of"),
        (("--loss", "2", "--quality-of-params", "1e9", *CHIPS), "give one of --quality-of"),
        (("--loss", "1.5", *CHIPS), "irreducible loss is 1.817"),
        (("--loss", "2.2", "--tokens", "1e12", *CHIPS), "--tokens: goes with --quality-of"),
        ((*ISSUE, "--params", "1e9"), "no amount of data reaches loss"),
        (("--quality-of", "gpt2", *CHIPS), "give them with --tokens"),
        (("--loss", "2.2", "--answers", "-1", *CHIPS), "--answers '-1'"),
        (("--loss", "2.2", "--answers", "1e9", "--fill", "2", *CHIPS), "fill=2"),
        (("--loss", "2.2", "--samples", "0", *CHIPS), "--samples 0"),
        (("--loss", "2.2", "--coverage-law", "kaplan-2020", *CHIPS), "says nothing of repeated samples"),
        (("--loss", "2.2", "--teacher-tokens", "1e12", *CHIPS), "goes with --teacher"),
        (("--loss", "2.2", "--train-days", "0", *CHIPS), "--train-days 0"),
        (("--loss", "2.2", "--kv", "int3", *CHIPS), "--kv: weight format"),
        (("--loss", "2.2", "--usd-per-chip-hour", "0", *CHIPS), "no size is cheaper"),
        (("--loss", "2.2", "--prompt-tokens", "2e5", *CHIPS), "more than the 131,072 positions"),
        (("--loss", "2.0", "--train-chips", "rtx-4090:1", "--serve-chips", "h200"), "no size can be trained"),
        (("--loss", "1.9", "--train-chips", "h100-sxm", "--serve-chips", "rtx-4090:1"), "no size can be served"),
        (("--loss", "2.2", "--train-chips", "h100-sxm:0", "--serve-chips", "h200"), "--train-chips 'h100-sxm:0'"),
        (("--loss", "2.2", "--train-chips", "h100-sxm", "--serve-chips", "abacus"), "chip 'abacus'"),
        (
            ("--loss", "2.2", "--usd-per-chip-hour", "b200=2", *CHIPS),
            "b200 is none of the chips asked for: h100-sxm, h200-sxm",
        ),
        (
            ("--loss", "2.2", "--usd-per-chip-hour", "2", "--train-chips", "sn40l:8", "--serve-chips", "h200"),
            "so 8 of them cannot be forecast; give the network of one chip in a --catalog file (scaleout_gbit_per_s)",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_options_of_size_only(words: tuple[str, ...], message: str) -> None:
    done = runner.invoke(app, ["size", *words])
    assert done.exit_code == 1
    said = str(done.exception)
    assert message in said
    assert "\n" not in said
    options = {f"--{name.replace('_', '-')}" for name in signature(size).parameters} | {"--catalog"}
    assert set(re.findall(r"--[a-z-]+", said)) <= options


def test_the_network_of_a_chip_is_given_as_the_message_says(tmp_path: Path) -> None:
    words = ("--loss", "2.2", "--usd-per-chip-hour", "2", "--train-chips", "mine:8", "--serve-chips", "h200")
    row = """[chip.mine]
vendor = "us"
role = "both"
family = "hopper"
bf16_tflops = 600
memory_gib = 64
memory_gb_per_s = 2000
source = "a test"
as_of = "2026-01-01"
verified = true
"""
    (tmp_path / "mine.toml").write_text(row)
    done = runner.invoke(app, ["size", *words, "--catalog", str(tmp_path / "mine.toml")])
    assert "scaleout_gbit_per_s" in str(done.exception)
    (tmp_path / "mine.toml").write_text(row + "scaleout_gbit_per_s = 400\n")
    assert asked(*words, "--catalog", str(tmp_path / "mine.toml"))["in_dollars"]["n_params"]["value"] > 0


def test_a_cold_start_takes_little_time_and_no_torch() -> None:
    """CPU seconds of the whole process: the bar is 2, given room for a slow machine."""
    code = (
        "import sys, time; sys.modules['torch'] = None; sys.modules['scipy'] = None\n"
        f"sys.argv = ['twobills', 'size', *{list(ISSUE)!r}, '--json']\n"
        "from twobills.cli.app import app\n"
        "app(standalone_mode=False)\n"
        "print(time.process_time(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stderr.split()[-1]) < 4
