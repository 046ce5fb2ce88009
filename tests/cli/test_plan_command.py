"""``twobills plan`` and ``plan training`` as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from twobills.cli.app import app

LLAMA_405B = ("plan", "training", "llama-3.1-405b", "--tokens", "15.6T", "--chips", "h100-sxm:16384")
SMALL = ("plan", "training", "llama-3.1-8b", "--tokens", "1T", "--chips", "h100-sxm:64")
HEAVY = ("torch", "matplotlib", "scipy", "transformers", "jinja2", "httpx")
"""Not pydantic: the command line's own library loads it to read options."""
runner = CliRunner()


def twobills(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "twobills", *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_405b_run_takes_a_second_from_a_cold_start_and_loads_nothing_heavy() -> None:
    """CPU time, which a busy machine moves less than wall time."""
    code = (
        "import resource, sys\n"
        f"sys.argv = ['twobills', *{LLAMA_405B!r}]\n"
        "from twobills.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code, done.code\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        f"print(used.ru_utime + used.ru_stime, [m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    seconds, _, loaded = runs[0].stderr.strip().partition(" ")
    assert loaded == "[]"
    assert min(float(seconds), float(runs[1].stderr.split()[0])) < 1.0


def test_planning_itself_loads_no_pydantic() -> None:
    code = "import sys, twobills.flows.plan_training; print([m for m in sys.modules if m.startswith('pydantic')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plan_is_both_bills_unless_one_is_named() -> None:
    both = runner.invoke(app, ["plan", "smollm2-135m", "--tokens", "2T", "--json"])
    named = runner.invoke(app, ["plan", "bills", "smollm2-135m", "--tokens", "2T", "--json"])
    options_first = runner.invoke(app, ["plan", "--tokens", "2T", "smollm2-135m", "--json"])
    assert both.exit_code == 0
    assert both.output == named.output == options_first.output
    assert {"training", "inference", "life"} <= set(json.loads(both.output))
    one = json.loads(runner.invoke(app, [*SMALL, "--json"]).output)
    assert "inference" not in one
    group = runner.invoke(app, ["plan", "--help"])
    assert group.exit_code == 0
    assert "training" in group.output
    assert "bills" in group.output


def test_both_bills_have_the_training_bill_of_plan_training() -> None:
    given = ["llama-3.1-8b", "--tokens", "1T", "--chips", "h100-sxm:64"]
    both = json.loads(runner.invoke(app, ["plan", *given, "--json"]).output)
    one = json.loads(runner.invoke(app, ["plan", "training", *given, "--json"]).output)
    assert both["training"]["bill"] == one["training"]["bill"]
    assert both["chip"]["n_chips"] == 64
    assert both["chip"]["n_serving_chips"] == 1


def test_explain_adds_the_steps_parts() -> None:
    document = json.loads(runner.invoke(app, [*SMALL, "--explain", "--json"]).output)
    seconds = sum(part["step_s"] for part in document["step_parts"])
    assert seconds == pytest.approx(document["training"]["step_s"]["value"])
    assert "Where a step's time goes" in runner.invoke(app, [*SMALL, "--explain"]).output


@pytest.mark.parametrize("columns", [80, 140])
def test_no_figure_is_cut(columns: int) -> None:
    done = twobills(*LLAMA_405B, "--explain", COLUMNS=str(columns))
    assert done.returncode == 0
    assert "…" not in done.stdout
    assert all(len(line.rstrip()) <= columns for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tp", "7"), "tp=7: does not divide n_heads=32"),
        (("--tp", "16"), "tp=16: wider than the fast links; the fast links of h100-sxm join 8 chips"),
        (("--tokens", "0"), "--tokens 0: must be above 0"),
        (("--tokens", "lots"), "--tokens 'lots': not a quantity"),
        (("--chips", "a100:64", "--dtype", "fp8"), "dtype=fp8: chip a100-sxm-80gb has no peak in that format"),
        (("--dtype", "fp7"), "dtype='fp7': unknown; one of"),
        (("--chips", "h900:64"), "chip 'h900': not in the catalogue; near it:"),
        (("--chips", "h100:many"), "--chips 'h100:many': write it as NAME:COUNT"),
        (("--chips", "cpu-core:8"), "chip cpu-core: memory_bytes is not known"),
        (("--batch-size", "8", "--dp", "16"), "global_batch=8: smaller than dp=16"),
        (("--job", "distill"), "teacher: not given; a distill run needs"),
        (("--teacher", "llama-3.1-8b"), "teacher=llama-3.1-8b: only a distill run has one"),
        (("--recompute", "some"), "--recompute 'some': must be one of none, selective, full"),
        (("--seq-len", "1000000"), "seq_len=1000000: llama-3.1-8b has positions for 131072"),
        (("--pue", "0.5"), "--pue 0.5: must be between 1 and 10"),
        (("--network-gbps", "0"), "--network-gbps 0: must be a number above 0"),
        (("--chips", "h100:1"), "does not fit: the plan that needs least"),
        (("--params", "8e9"), "MODEL or --params: give a model or a size"),
    ],
)
def test_nonsense_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = twobills(*SMALL, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout


def test_a_config_that_lacks_a_field_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "hidden_size": 4096}')
    done = twobills("plan", "training", tmp_path, "--tokens", "1T", "--chips", "h100-sxm:64")
    assert done.returncode == 2
    assert "config.json: num_hidden_layers" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_model_has_near_names() -> None:
    done = twobills("plan", "training", "lama-3.1-8b", "--tokens", "1T")
    assert done.returncode == 2
    assert "near it: llama-3.1-8b" in done.stderr


def test_a_size_will_do() -> None:
    result = runner.invoke(app, ["plan", "training", "--params", "8e9", "--tokens", "1T", "--chips", "h100-sxm:64"])
    assert result.exit_code == 0
    assert "Llama 3's proportions" in result.output


BAR = (
    *("plan", "llama-3.1-70b", "--tokens", "15T", "--train-chips", "h100-sxm:8192", "--serve-chips", "h200:8"),
    *("--requests-per-day", "1e7", "--prompt-tokens", "1000", "--answer-tokens", "300"),
)


def test_both_bills_over_a_life_from_a_cold_start_load_nothing_heavy() -> None:
    """CPU time of the bar's question, and the figures it must have."""
    code = (
        "import resource, sys\n"
        f"sys.argv = ['twobills', *{BAR!r}, '--json']\n"
        "from twobills.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code, done.code\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        f"print(used.ru_utime + used.ru_stime, [m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, _, loaded = done.stderr.strip().partition(" ")
    assert loaded == "[]"
    assert float(seconds) < 2.5
    document = json.loads(done.stdout)
    inference, life = document["inference"], document["life"]
    named = [inference["usd_per_mtok"][kind] for kind in ("input", "cached_input", "output")]
    named += [document["training"]["total_usd"], inference["usd_per_day"], life["crossover_days"]]
    for figure in (*named, life["inference_share"]):
        assert figure["p5"] <= figure["value"] <= figure["p95"]
    assert inference["n_machines"]["value"] > 1  # one machine is too small for the traffic


def test_a_plan_is_saved_rerun_and_compared(tmp_path: Path) -> None:
    path, other, page = tmp_path / "plan.toml", tmp_path / "other.toml", tmp_path / "page.html"
    given = ["plan", "llama-3.1-8b", "--tokens", "1T", "--chips", "h100-sxm:64", "--requests-per-day", "10M"]
    first = runner.invoke(app, [*given, "--save", str(path), "--report", str(page), "--json"])
    again = runner.invoke(app, ["plan", str(path), "--json"])
    assert json.loads(first.stdout) == json.loads(again.stdout)
    assert "<!DOCTYPE html>" in page.read_text()[:40]
    longer = runner.invoke(app, ["plan", str(path), "--years", "4", "--price-decline", "30%", "--save", str(other)])
    assert longer.exit_code == 0
    differ = runner.invoke(app, ["plan", str(path), "--diff", str(other)])
    assert differ.exit_code == 0
    assert "price_decline" in differ.output
    both = json.loads(runner.invoke(app, ["plan", str(path), "--diff", str(other), "--json"]).stdout)
    assert both["other"]["life"]["years"] == 4


def test_well_known_models_have_a_table(tmp_path: Path) -> None:
    path = tmp_path / "two-bills.md"
    done = runner.invoke(app, ["plan", "table", str(path)])
    assert done.exit_code == 0
    assert "dwarfs" in done.output
    assert path.read_text().startswith("# The two bills")
    assert len(json.loads(runner.invoke(app, ["plan", "table", "--json"]).stdout)["models"]) >= 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--requests-per-day", "0"), "requests_per_day=0: must be above 0; without traffic there is no second bill"),
        (("--prompt-tokens", "-5"), "prompt_tokens=-5: must be at least 1"),
        (("--answer-tokens", "0"), "answer_tokens=0: must be at least 1"),
        (("--concurrency", "5"), "concurrency: only with chips=this"),
        (("--prompt-tokens", "200000"), "prompt_tokens=200000"),
        (("--serve-chips", "h900:8"), "chip 'h900': not in the catalogue"),
        (("--serve-chips", "t4:1"), "does not fit one t4"),
        (("--weights", "fp3"), "weight format 'fp3': unknown"),
        (("--growth", "lots"), "growth='lots': write it like 5% or 0.05"),
        (("--years", "0"), "years=0: must be above 0"),
        (("--fill", "100%"), "fill=1: must be above 0 and below 1"),
        (("--traffic", "nowhere.csv"), "--traffic nowhere.csv: cannot be read"),
        (("--save", "nowhere/plan.toml"), "--save nowhere/plan.toml: cannot be written"),
        (("--diff", "nowhere.toml"), "nowhere.toml: cannot be read"),
    ],
)
def test_a_life_that_cannot_be_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = twobills("plan", "llama-3.1-8b", "--tokens", "1T", "--chips", "h100-sxm:64", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout
