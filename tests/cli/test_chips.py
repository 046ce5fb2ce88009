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
