"""``twobills chips`` as a user meets it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.cli.test_cli import twobills
from twobills.cli.app import app
from twobills.specs import catalog

runner = CliRunner()


def test_the_list_as_json_holds_every_chip() -> None:
    chips = json.loads(runner.invoke(app, ["chips", "list", "--json"]).output)["chips"]
    assert [chip["name"] for chip in chips] == list(catalog.chips())


@pytest.mark.parametrize(("option", "value"), [("role", "inference"), ("family", "hopper")])
def test_the_list_can_be_narrowed(option: str, value: str) -> None:
    chips = json.loads(runner.invoke(app, ["chips", "list", f"--{option}", value, "--json"]).output)["chips"]
    assert chips
    assert {chip[option] for chip in chips} == {value}


def test_nothing_that_fits_is_no_table() -> None:
    result = runner.invoke(app, ["chips", "list", "--role", "training", "--family", "hopper"])
    assert result.exit_code == 0
    assert result.output.strip() == "No chip of the catalogue fits that."


def test_one_chip_by_its_everyday_name() -> None:
    document = json.loads(runner.invoke(app, ["chips", "show", "h100", "--json"]).output)
    assert document["name"] == "h100-sxm"
    assert document["peak_flops_per_s"]["bf16"] == pytest.approx(989.4e12)
    text = runner.invoke(app, ["chips", "show", "h100"]).output
    assert "remembered *" in text
    assert "Nebius" in text


def test_a_users_own_chip(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('[chip.mine]\nvendor = "me"\nsource = "a wish"\nas_of = "2026"\nbf16_tflops = 1\n')
    document = json.loads(runner.invoke(app, ["chips", "show", "mine", "--catalog", str(mine), "--json"]).output)
    assert document["peak_flops_per_s"] == {"bf16": 1e12}


@pytest.mark.parametrize("columns", [80, 100, 120, 200])
def test_no_figure_is_cut_however_narrow_the_screen(columns: int) -> None:
    for command in (("chips", "list"), ("chips", "show", "h100"), ("chips", "show", "tpu-v5e")):
        done = twobills(*command, COLUMNS=str(columns))
        assert done.returncode == 0
        assert "…" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "h900"), "chip 'h900': not in the catalogue; near it: .*h100-sxm"),
        (("show", "a100-pcie"), "may mean a100-pcie-40gb or a100-pcie-80gb"),
        (("list", "--role", "gaming"), "--role 'gaming': must be one of both, inference, training"),
        (("list", "--family", "x"), "--family 'x': must be one of ada, ampere"),
        (("list", "--catalog", "nowhere.toml"), "nowhere.toml: cannot be read"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = twobills("chips", *arguments)
    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout


EXAMPLE = Path(__file__).parents[2] / "examples" / "chip.toml"


def test_the_example_of_a_users_chip_can_be_shown_and_planned_on() -> None:
    assert "examples/chip.toml" in runner.invoke(app, ["chips", "--help"]).output
    shown = runner.invoke(app, ["chips", "show", "mychip", "--catalog", str(EXAMPLE), "--json"])
    document = json.loads(shown.output)
    assert document["prices"][0]["usd_per_chip_hour"] == 2.5
    asked = ["plan", "training", "llama-3.1-8b", "--tokens", "1T", "--chips", "mychip:64", "--catalog", str(EXAMPLE)]
    rented, owned = (json.loads(runner.invoke(app, [*asked, *more, "--json"]).output) for more in ([], ["--owned"]))
    training = rented["training"]
    assert training["total_usd"]["value"] == pytest.approx(2.5 * training["chip_hours"]["value"])
    assert training["split"] is not None
    assert owned["training"]["bill"]["rates"]["usd_per_j"] > 0


def test_the_example_names_every_command_it_is_for() -> None:
    lines = [line.strip("# ") for line in EXAMPLE.read_text().splitlines() if line.startswith("#     twobills ")]
    assert len(lines) == 2
    for line in lines:
        words = line.replace("examples/chip.toml", str(EXAMPLE)).split()[1:]
        assert runner.invoke(app, words).exit_code == 0
