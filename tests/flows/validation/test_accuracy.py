"""The page of errors, from a small table that the forecast itself made."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from twobills.errors import RequestError
from twobills.flows.validation.calibrated import write_page
from twobills.flows.validation.document import validate_file
from twobills.specs.calibration import published_calibration

pytest.importorskip("scipy", reason="leaving rows out needs the extra [fit]")
ROW = {
    "source": "",
    "model": "Llama 3.1 8B",
    "seq_len": "8192",
    "n_chips": "64",
    "chip": "",
    "tokens_per_s_per_chip": "1000",
    "global_batch_seqs": "128",
    "parallelism": "FSDP64",
    "note": "",
}
RUN = {
    "model": "Llama-2-7B",
    "params_total": "6.7e9",
    "params_active": "6.7e9",
    "tokens": "2e12",
    "chip": "a100_80gb",
    "n_chips": "",
    "chip_hours": "184320",
    "wall_days": "",
    "verified": "yes",
    "source_title": "a card",
}


def table(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_page_shows_each_table_each_group_and_each_left_out(tmp_path: Path) -> None:
    """Forecasts are measured to be exactly right, but for one row, which is measured to be twice as fast."""
    rows = [{**ROW, "source": source, "chip": chip} for source in ("us", "them") for chip in ("h100", "a100")]
    first = validate_file(table(tmp_path / "made.csv", rows), published_calibration())
    for row, scored in zip(rows, first.scored, strict=True):
        row["tokens_per_s_per_chip"] = str(scored.forecast)
    rows[0]["tokens_per_s_per_chip"] = str(2 * first.scored[0].forecast)
    made = validate_file(table(tmp_path / "made.csv", rows), published_calibration())
    runs = validate_file(table(tmp_path / "runs.csv", [RUN]), published_calibration())
    page = tmp_path / "page.md"
    write_page([made, runs], published_calibration(), page)
    text = page.read_text(encoding="utf-8")
    assert re.search(r"\| made\.csv: 4 of 4 eligible \| 4 \| 0\.0% \| 35\.0% \| .0\.0% \| 75% \|", text)
    assert "| -50.0% | Llama 3.1 8B, 8192 tokens, 64 x h100-sxm, compiled |" in text
    for name in ("us", "them", "h100-sxm", "a100-sxm-80gb", "Llama 3.1 8B", "ampere", "hopper"):
        assert f"\n| {name} |" in text
    assert "(number assumed)" in text
    with pytest.raises(RequestError, match="at least one table of throughput"):
        write_page([runs], published_calibration(), page)
