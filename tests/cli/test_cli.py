"""The command line as a user meets it, none of it needing PyTorch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from twobills import __version__
from twobills.cli.app import app
from twobills.errors import TwobillsError
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.money.bill import price
from twobills.money.rates import Rates
from twobills.usage import Job, Origin, Phase, PhaseUsage, Usage

COMMANDS = ["run", "train", "serve", "generate", "plan", "machine", "chips", "ledger"]
runner = CliRunner()


def twobills(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "twobills", *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def cpu_seconds(code: str) -> float:
    """CPU seconds of a Python process that runs ``code``, the best of three, less a process that does nothing."""

    def run(code: str) -> float:
        measure = "import resource; u = resource.getrusage(resource.RUSAGE_SELF); print(u.ru_utime + u.ru_stime)"
        done = subprocess.run([sys.executable, "-c", f"{code}\n{measure}"], capture_output=True, text=True, check=True)
        return float(done.stdout.splitlines()[-1])

    return min(run(code) for _ in range(3)) - min(run("pass") for _ in range(3))


def test_importing_is_quick() -> None:
    """A generous bound on CPU time, which a busy machine moves less than wall time."""
    assert cpu_seconds("import twobills") < 0.4


def test_help_is_quick() -> None:
    code = "import sys\nsys.argv = ['twobills', '--help']\nfrom twobills.cli.app import app\n"
    assert cpu_seconds(code + "try:\n    app()\nexcept SystemExit:\n    pass") < 0.6


def test_no_command_loads_torch_before_it_is_needed() -> None:
    code = "import sys, twobills.cli.app; print([m for m in ('torch', 'numpy', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_the_version() -> None:
    assert runner.invoke(app, ["--version"]).output.strip() == f"twobills {__version__}"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("plan", "nonsense", "--tokens", "1T"), 2, "model 'nonsense': not in the catalogue"),
        (("plan", "smollm2-135m", "--tokens", "many"), 2, "--tokens 'many': not a quantity"),
        (("plan", "smollm2-135m", "--tokens", "0"), 2, "--tokens 0: must be above 0"),
        (("plan", "smollm2-135m", "--tokens", "1B", "--chips", "h900"), 2, "chip 'h900': not in the catalogue"),
        (
            ("plan", "smollm2-135m", "--tokens", "1B", "--chips", "cpu-core"),
            2,
            "chip cpu-core: memory_bytes is not known",
        ),
        (("plan", "llama-3.1-8b", "--tokens", "1T"), 2, "does not fit: the plan that needs least"),
        (
            ("plan", "smollm2-135m", "--tokens", "1B", "--chips", "gb300"),
            2,
            "nobody's is in the catalogue; give yours with",
        ),
        (("plan", "smollm2-135m", "--tokens", "1e400"), 2, "too large a quantity"),
        (("plan", "smollm2-135m", "--tokens", "1B", "--prompt-tokens", "20000"), 2, "more than the 8,192 positions"),
        (("plan", "smollm2-135m", "--tokens", "1B", "--usd-per-chip-hour", "inf"), 2, "must be a number of dollars"),
        (("ledger", "show", "last"), 2, "run 'last': matches no run"),
        (("ledger", "reconcile", "x"), 2, "run 'x': matches no run"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], status: int, message: str) -> None:
    done = twobills(*arguments)
    assert done.returncode == status
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout


def test_without_pytorch_a_job_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    done = twobills("run", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert re.fullmatch(
        r"twobills: this command needs PyTorch \(\w+ is missing\): pip install 'twobills\[run\]'\n", done.stderr
    )


def test_a_plan_is_two_bills_and_their_crossing() -> None:
    result = runner.invoke(app, ["plan", "smollm2-135m", "--tokens", "2T", "--json"])
    assert result.exit_code == 0
    document = json.loads(result.output)
    assert document["model"]["n_params"] == 134_515_008
    assert set(document["training"]["total_usd"]) == {"value", "p5", "p95"}
    assert document["inference"]["bill"]["total_usd"] > 0
    demands = document["life"]["demands"]
    assert demands[0]["crossover_days"] > demands[1]["crossover_days"]
    assert any("data sheet" in line for line in document["assumed"])


@pytest.mark.parametrize("columns", [70, 80, 100, 120])
def test_no_figure_is_cut_however_narrow_the_screen(columns: int, run_id: str) -> None:
    for command in (("plan", "smollm2-135m", "--tokens", "2T"), ("ledger", "show", run_id), ("ledger", "list")):
        done = twobills(*command, COLUMNS=str(columns))
        assert done.returncode == 0
        assert "…" not in done.stdout


def test_a_chip_without_a_price_takes_the_users() -> None:
    arguments = ["plan", "smollm2-135m", "--tokens", "1B", "--chips", "gb300", "--usd-per-chip-hour", "3.6", "--json"]
    rates = json.loads(runner.invoke(app, arguments).output)["training"]["bill"]["rates"]
    assert rates["usd_per_chip_s"] == pytest.approx(0.001)
    assert not rates["assumed"]


def test_a_plan_for_people_has_a_sentence_above_each_table() -> None:
    result = runner.invoke(app, ["plan", "smollm2-135m", "--tokens", "2T"])
    assert "This is the training bill, paid once to make the model" in result.output
    assert "This is the inference bill, paid again for every answer" in result.output


RATES = Rates(usd_per_chip_s=0.01, usd_per_j=0, source="a test", as_of="2026-01-01", assumed=True)


@pytest.fixture
def run_id() -> str:
    ledger = Ledger(Path(os.environ["TWOBILLS_LEDGER"]))
    run = ledger.start("run", {})
    phases = {Phase.PRETRAIN: PhaseUsage(tokens=100, chip_s=10)}
    ledger.plan(run, price(Usage(job=Job.TRAINING, origin=Origin.PREDICTED, phases=phases), RATES), {})
    slower = {Phase.PRETRAIN: PhaseUsage(tokens=100, chip_s=15)}
    ledger.reading(run, Usage(job=Job.TRAINING, origin=Origin.MEASURED, phases=slower), RATES)
    ledger.end(run, Outcome.DONE)
    return run


def test_the_ledger_lists_shows_and_reconciles(run_id: str) -> None:
    listed = json.loads(runner.invoke(app, ["ledger", "list", "--json"]).output)["runs"]
    assert [(row["run_id"], row["outcome"]) for row in listed] == [(run_id, "done")]
    assert listed[0]["training_usd"] == pytest.approx(0.15)
    shown = json.loads(runner.invoke(app, ["ledger", "show", "last", "--json"]).output)
    assert shown["measured"]["training"]["total_usd"] == pytest.approx(0.15)
    gaps = json.loads(runner.invoke(app, ["ledger", "reconcile", run_id, "--json"]).output)["gaps"]["training"]
    assert gaps["speed_usd"] == pytest.approx(0.05)
    assert gaps["work_usd"] == gaps["price_usd"] == 0
    for command in (["list"], ["show", "last"], ["reconcile", "last"]):
        assert runner.invoke(app, ["ledger", *command]).exit_code == 0
    assert "speed gap" in runner.invoke(app, ["ledger", "reconcile", "last"]).output


def test_a_ledger_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    done = twobills("ledger", "list", "--ledger", tmp_path)
    assert done.returncode == 1
    assert "cannot be used" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_statuses_are_those_of_the_contract() -> None:
    found = {error.__name__: error.exit_status for error in _all(TwobillsError)}
    assert found["RequestError"] == found["SpecError"] == found["DataError"] == 2
    assert found["BudgetError"] == 3
    assert found["TargetError"] == 4
    assert found["ServerError"] == 1


def _all(error: type[TwobillsError]) -> list[type[TwobillsError]]:
    return [error, *(deeper for sub in error.__subclasses__() for deeper in _all(sub))]
