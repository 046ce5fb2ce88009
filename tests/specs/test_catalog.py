"""Chips and prices of the catalogue: sourced, dated, in range, found by the names that people and data files use."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests import shared_data
from twobills.errors import CatalogError
from twobills.specs import catalog
from twobills.specs.chip_rows import FIGURES, PEAKS
from twobills.specs.dtype import DType
from twobills.specs.hardware import ChipSpec, peak_name
from twobills.specs.prices import PriceKind

CHIPS = list(catalog.chips().values())
DATE = re.compile(r"20\d\d(-\d\d(-\d\d)?)?")
RANGES = {
    "watts": (3, 20_000),
    "memory_bytes": (1e8, 1e12),
    "memory_bytes_per_s": (1e10, 3e16),
    "sram_bytes": (1e6, 1e11),
    "scaleup_bytes_per_s": (1e9, 1e13),
    "scaleout_bytes_per_s": (1e9, 1e12),
    "process_nm": (2, 28),
    "die_mm2": (50, 50_000),
    "list_price_usd": (500, 100_000),
    "year": (2015, 2028),
    "scaleup_chips": (1, 20_000),
    "usable_memory_bytes": (1e8, 1e12),
}


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_every_chip_is_sourced_dated_and_in_range(chip: ChipSpec) -> None:
    assert chip.source
    assert DATE.fullmatch(chip.as_of)
    assert chip.family == (chip.family or "").lower() != ""
    for name, figure in chip.figures().items():
        least, most = RANGES.get(name, (1e12, 1e17))  # all others are peaks
        assert least <= figure <= most, name


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_narrower_formats_are_never_slower(chip: ChipSpec) -> None:
    rates = chip.peak_flops_per_s
    order = [rates[dtype] for dtype in (DType.FP32, DType.BF16, DType.FP8, DType.FP4) if dtype in rates]
    assert order == sorted(order)
    if DType.BF16 in rates and DType.FP16 in rates:
        assert rates[DType.BF16] == rates[DType.FP16]


def test_there_are_many_chips_of_both_jobs() -> None:
    assert len(CHIPS) >= 60
    assert {"training", "inference", "both"} == {chip.role.value for chip in CHIPS}


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("h100", "h100-sxm"),
        ("H100_80GB", "h100-sxm"),
        ("A100", "a100-sxm-80gb"),
        ("TPU v5p", "tpu-v5p"),
        ("h100-sxm-96gb-500w", "h100-sxm-96gb-500w"),
    ],
)
def test_a_chip_has_one_name_and_many_spellings(name: str, means: str) -> None:
    assert catalog.chip(name).name == means


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a100-pcie", "chip 'a100-pcie': may mean a100-pcie-40gb or a100-pcie-80gb; say which"),
        ("tpu-v5", "may mean tpu-v5e or tpu-v5p"),
        ("h900", "chip 'h900': not in the catalogue; near it: .*h100-sxm"),
        ("", "chip '': not in the catalogue"),
    ],
)
def test_a_name_of_no_chip_or_of_two_is_refused(name: str, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        catalog.chip(name)


def test_an_alias_never_hides_a_name() -> None:
    aliases = {alias for chip in CHIPS for alias in chip.aliases}
    assert not aliases & set(catalog.chips())


def test_every_price_is_dated_and_of_a_chip() -> None:
    for name, found in catalog.prices().items():
        assert name in catalog.chips()
        assert all(DATE.fullmatch(price.as_of) and price.source for price in found)
        on_demand = [(price.provider, price.year) for price in found if price.kind is PriceKind.ON_DEMAND]
        assert len(on_demand) == len(set(on_demand)), f"{name}: a provider would count twice in the median"
        assert catalog.chip_price(name) in found


def test_a_chip_that_nobody_rents_has_no_price() -> None:
    assert catalog.chip_prices("gb300") == ()
    with pytest.raises(CatalogError, match="price for chip 'gb300': nobody's is in the catalogue; give yours"):
        catalog.chip_price("gb300")


def test_a_users_file_adds_and_overrides(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[chip.h100-sxm]\nvendor = "me"\nsource = "a measurement"\nas_of = "2026-11"\nbf16_tflops = 500\n'
        '[chip.Mine_1]\nvendor = "me"\nsource = "a guess"\nas_of = "2026"\naliases = ["a100"]\n'
        '[[price]]\nchip = "h100"\nusd_per_hour = 36\nkind = "own"\nsource = "my bill"\nas_of = "2026-11"\n'
    )
    assert catalog.chip("h100", mine).vendor == "me"
    assert catalog.chip("a100", mine).name == "mine-1"
    assert catalog.chip("a100").name == "a100-sxm-80gb"
    assert catalog.chip("b200", mine) == catalog.chip("b200")
    assert catalog.chip_price("h100-sxm", mine).usd_per_chip_s == pytest.approx(0.01)
    assert catalog.chip_price("b200", mine) == catalog.chip_price("b200")


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("Llama 3.3 70B", "llama-3.1-70b"),
        ("DeepSeek_R1", "deepseek-v3"),
        ("Qwen3-Coder-30B-A3B", "qwen3-30b-a3b"),
        ("GPT-J 6B", "gpt-j-6b"),
        ("minimax-m2.7", "minimax-m2.5"),
    ],
)
def test_a_model_has_one_name_and_many_spellings(name: str, means: str) -> None:
    assert catalog.model(name) == catalog.model(means) == catalog.models()[means]


def test_no_two_models_share_an_alias() -> None:
    rows = catalog.read_rows("models")
    aliases = [alias for row in rows.values() for alias in row.get("aliases", [])]
    assert len(set(aliases)) == len(aliases)
    assert not set(aliases) & set(rows)


def test_a_users_alias_takes_the_place_of_ours(tmp_path: Path) -> None:
    mine, shape = tmp_path / "mine.toml", catalog.read_rows("models")["smollm2-135m"]
    lines = [f"{key} = {json.dumps(value)}" for key, value in shape.items()]
    mine.write_text('[model.My_Model]\naliases = ["Llama 3.3 70B"]\n' + "\n".join(lines))
    assert catalog.model("llama-3.3-70b", mine).n_layers == catalog.model("my-model", mine).n_layers == 30
    assert catalog.model("deepseek-r1", mine) == catalog.model("deepseek-v3")


def test_a_users_model_is_found(tmp_path: Path) -> None:
    mine, shape = tmp_path / "mine.toml", catalog.read_rows("models")["smollm2-135m"]
    lines = [f"{key} = {json.dumps(value)}" for key, value in shape.items()]
    mine.write_text("[model.my-model]\n" + "\n".join(lines))
    assert replace(catalog.model("my-model", mine), name="smollm2-135m") == catalog.model("smollm2-135m", mine)
    mine.write_text("[model.my-model]\n" + "\n".join(lines) + "\nspeed = 1\n")
    with pytest.raises(CatalogError, match=r"mine\.toml: model my-model: .*'speed'"):
        catalog.model("my-model", mine)


def test_a_users_price_of_no_chip_says_where(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('[[price]]\nchip = "h900"\nusd_per_hour = 1\nkind = "own"\nsource = "me"\nas_of = "2026"\n')
    with pytest.raises(CatalogError, match=r"mine\.toml: price of h900: chip 'h900': not in the catalogue"):
        catalog.prices(mine)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "mine.toml: not TOML"),
        ("[h100]\nwatts = 1\n", r"unknown table 'h100'; write \[chip.NAME\], \[model.NAME\] or \[\[price\]\]"),
        ("chip = 3\n", r"chip: write \[chip.NAME\]"),
        ("[price]\nchip = 'h100'\n", r"price: write \[\[price\]\]"),
        ("[chip.x]\nwatts = 1\n", "mine.toml: chip x: vendor is missing"),
        ("[chip]\nx = 3\n", "mine.toml: chip x: 3: must be a table"),
    ],
)
def test_a_users_file_that_cannot_be_read_says_where(tmp_path: Path, text: str, message: str) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(text)
    with pytest.raises(CatalogError, match=message) as caught:
        catalog.chip_price("h100" if "price" in text else "x", mine)
    assert "\n" not in str(caught.value)


def test_a_users_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"nowhere\.toml: cannot be read"):
        catalog.chips(tmp_path / "nowhere.toml")


@shared_data.needs_shared_data
@pytest.mark.parametrize("name", ["mfu_tables.csv", "mfu_tables_extra.csv", "training_runs.csv"])
def test_every_chip_of_the_published_runs_is_known(name: str) -> None:
    """Rows without any chip are runs whose source names none."""
    for key in {row["chip"] for row in shared_data.rows(name)} - {""}:
        assert catalog.chip(key).peak_flops_per_s, key


CELLS = {
    "peak_fp32_tflops": "fp32_tflops",
    "peak_bf16_tflops": "bf16_tflops",
    "peak_fp8_tflops": "fp8_tflops",
    "peak_fp4_tflops": "fp4_tflops",
    "peak_int8_tops": "int8_tops",
    "mem_gb": "memory_gib",
    "mem_bw_gbs": "memory_gb_per_s",
    "sram_mb": "sram_mb",
    "scaleup_gbs_per_chip": "scaleup_gb_per_s",
    "scaleout_gbps_per_chip": "scaleout_gbit_per_s",
    "tdp_w": "watts",
    "die_mm2": "die_mm2",
    "process_nm": "process_nm",
    "list_price_usd": "list_price_usd",
    "scaleup_domain_chips": "scaleup_chips",
    "year": "year",
}
"""Columns of the shared table: keys of our rows."""
READ_SINCE = {
    ("tpu-v5p", "scaleup_bytes_per_s"),
    ("tpu-v5p", "scaleout_bytes_per_s"),
    ("h100-sxm", "peak_fp8_flops_per_s"),
    ("h200-sxm", "scaleup_bytes_per_s"),
    ("h800-sxm", "scaleup_bytes_per_s"),
    ("b200", "scaleup_bytes_per_s"),
    ("b200", "scaleup_chips"),
    ("gb200", "scaleup_chips"),
    ("gb300", "scaleup_chips"),
}
"""What the shared table has from memory or not at all, and the second source that the row names states."""
SAME_AS_FP32 = {"apple-m2-ultra", "apple-m3-ultra", "apple-m4-max"}
"""GPUs that do 16 bits at the rate of 32, which the shared table says in words only."""
NO_CHIP = {"OpenAI-Jalapeno"}
"""Announced without any rate."""


@shared_data.needs_shared_data
@pytest.mark.parametrize("row", shared_data.rows("chips.csv"), ids=lambda row: str(row["chip"]))
def test_the_catalogue_says_what_the_shared_table_says(row: dict[str, str]) -> None:
    """Cell by cell, what is known, its value, and whether it was read."""
    if row["chip"] in NO_CHIP:
        pytest.skip("no rate of it is published")
    chip = catalog.chip(row["chip"])
    remembered = set(row["memory_cells"].split(";"))
    for column, key in CELLS.items():
        field, unit = (peak_name(PEAKS[key]), 1e12) if key in PEAKS else FIGURES.get(key, (key, 1.0))
        if field == "peak_bf16_flops_per_s" and DType.BF16 not in chip.peak_flops_per_s:
            field = "peak_fp16_flops_per_s"  # units that have no BF16 stand in this column too
        if column == "peak_bf16_tflops" and chip.name in SAME_AS_FP32:
            assert chip.figures()[field] == chip.figures()["peak_fp32_flops_per_s"]
            continue
        known, read_since = chip.figures().get(field), (chip.name, field) in READ_SINCE
        if row[column] or not read_since:
            assert known == (pytest.approx(float(row[column]) * unit) if row[column] else None), column
        if column in remembered and row[column]:
            assert (field in chip.unverified) != read_since, column
        assert not read_since or "; " in chip.source
    assert chip.verified == (row["verified"] == "yes")
