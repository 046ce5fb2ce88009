"""What a table of measured throughput says about a row's inputs, and what it does not."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from twobills.counts.params import count_params
from twobills.errors import DataError
from twobills.flows.validation.rows import Skipped, ThroughputRow, read_table, throughput_rows
from twobills.flows.validation.throughput import forecast_rows
from twobills.specs import catalog
from twobills.specs.calibration import published_calibration
from twobills.specs.parallel import Recompute, Zero

STATED = {
    "source": "torchtitan benchmarks",
    "model": "Llama 3.1 8B",
    "seq_len": "8192",
    "n_chips": "64",
    "chip": "h100_80gb",
    "mfu": "",
    "hfu": "",
    "tflops_per_chip": "",
    "tokens_per_s_total": "",
    "tokens_per_s_per_chip": "5000",
    "micro_batch": "2",
    "grad_accum": "4",
    "global_batch_seqs": "512",
    "precision": "bf16",
    "sharding": "FULL_SHARD",
    "activation_checkpointing": "full",
    "layers": "",
    "d_model": "",
    "n_heads": "",
    "vocab": "",
    "parallelism": "FSDP64",
    "note": "",
}


def read(**changes: str) -> ThroughputRow | Skipped:
    return next(throughput_rows([{**STATED, **changes}], "table"))


def forecastable(**changes: str) -> ThroughputRow:
    row = read(**changes)
    assert isinstance(row, ThroughputRow), row
    return row


def test_a_row_is_read_as_it_stands() -> None:
    row = forecastable()
    assert row.model.name == "llama-3.1-8b"
    assert (row.cluster.chip.name, row.cluster.n_chips) == ("h100-sxm", 64)
    assert (row.global_batch, row.seq_len, row.tokens_per_s_per_chip) == (512, 8192, 5000)
    assert (row.fixed.tp, row.fixed.pp, row.fixed.cp) == (1, 1, 1)
    assert (row.fixed.zero, row.fixed.micro_batch, row.fixed.recompute) == (Zero.PARAMETERS, 2, Recompute.FULL)
    assert not row.fp8


def test_degrees_are_read_and_what_is_not_stated_is_free() -> None:
    stated = forecastable(parallelism="TP8 PP4 CP2 DP1", sharding="").fixed
    assert (stated.tp, stated.pp, stated.cp, stated.zero) == (8, 4, 2, None)
    spelt = forecastable(parallelism="tp=8, pp 4, cp2, VP 4", sharding="").fixed
    assert (spelt.tp, spelt.pp, spelt.cp, spelt.interleave) == (8, 4, 2, 4)
    free = forecastable(parallelism="", sharding="", activation_checkpointing="", micro_batch="").fixed
    assert (free.tp, free.pp, free.cp, free.recompute, free.micro_batch) == (None, None, None, None, None)


@pytest.mark.parametrize(
    ("changes", "sequences"),
    [
        ({"global_batch_seqs": "", "global_batch_tokens": "4194304"}, 512),
        ({"global_batch_seqs": "", "note": "local batch 2"}, 128),
        ({"global_batch_seqs": "", "note": "local batch 12", "parallelism": "FSDP8 TP8"}, 96),
        ({"global_batch_seqs": "", "note": "batch/DP 32", "parallelism": "TP8 PP8 DP1"}, 32),
        ({"global_batch_seqs": ""}, 2 * 4 * 64),
    ],
)
def test_the_batch_is_found_where_it_is_stated(changes: dict[str, str], sequences: float) -> None:
    assert forecastable(**changes).global_batch == sequences


def test_throughput_comes_from_the_sources_own_convention_where_tokens_are_not_given() -> None:
    by_tokens = forecastable()
    n_params, square = 8_030_261_248, 12 * 32 * 32 * 128 * 8192
    tflops = 5000 * (6 * n_params + square) / 1e12
    assert forecastable(tokens_per_s_per_chip="", tokens_per_s_total="320000").tokens_per_s_per_chip == 5000
    by_flops = forecastable(tokens_per_s_per_chip="", tflops_per_chip=str(tflops)).tokens_per_s_per_chip
    assert by_flops == pytest.approx(by_tokens.tokens_per_s_per_chip, rel=1e-9)
    by_mfu = forecastable(tokens_per_s_per_chip="", mfu=str(tflops / 989.4)).tokens_per_s_per_chip
    assert by_mfu == pytest.approx(5000, rel=1e-3)
    by_sequences = forecastable(tokens_per_s_per_chip="", seqs_per_s=str(320_000 / 8192)).tokens_per_s_per_chip
    assert by_sequences == pytest.approx(5000, rel=1e-12)


def test_flops_of_a_mixture_of_experts_are_those_of_its_active_parameters() -> None:
    row = forecastable(model="Mixtral 8x7B", tokens_per_s_per_chip="", tflops_per_chip="300")
    per_token = 6 * count_params(row.model).active + 12 * 32 * 32 * 128 * 8192
    assert row.tokens_per_s_per_chip == pytest.approx(300e12 / per_token, rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "eligible", "reason"),
    [
        ({"tokens_per_s_per_chip": ""}, False, "no throughput"),
        ({"global_batch_seqs": "", "micro_batch": ""}, False, "batch is not stated"),
        ({"chip": "abacus-9"}, True, "abacus-9"),
        ({"model": "Nobody 3B"}, True, "not in the catalogue"),
        ({"seq_len": "long"}, True, "not a number"),
        ({"tokens_per_s_per_chip": "", "mfu": "43"}, True, "mfu='43': must be a fraction"),
        ({"tokens_per_s_per_chip": "", "hfu": "0.5"}, True, "only a hardware FLOP/s"),
        ({"n_chips": "nan"}, True, "n_chips='nan': not a number"),
        ({"model": "Nobody 3B", "layers": "1e30"}, True, "layers='1e30': must be a whole number"),
        ({"n_chips": "0"}, True, "n_chips='0': must be a whole number"),
        ({"seq_len": "1e30"}, True, "seq_len='1e30': must be a whole number"),
        ({"parallelism": "TP0 DP64"}, True, "degrees must be at least 1"),
        ({"tokens_per_s_per_chip": "fast"}, True, "not a number"),
        ({"model": "Nobody 3B", "global_batch_seqs": "", "micro_batch": ""}, False, "batch is not stated"),
    ],
)
def test_a_row_that_cannot_be_read_is_skipped_with_its_reason(
    changes: dict[str, str], eligible: bool, reason: str
) -> None:
    row = read(**changes)
    assert isinstance(row, Skipped)
    assert row.eligible is eligible
    assert reason in row.reason


@pytest.mark.parametrize("name", ["GPT-3 175B (MLPerf)", "gpt3_175b", "GPT3-175B"])
def test_a_name_is_known_in_any_spelling_unless_the_columns_contradict_it(name: str) -> None:
    columns = {"layers": "96", "d_model": "12288", "n_heads": "96"}
    assert forecastable(model=name, **columns).model.name == "gpt3-175b"
    other = forecastable(model=name, **columns | {"n_heads": "128", "vocab": "64000"}).model
    assert (other.n_heads, other.vocab_size) == (128, 64_000)


def test_no_two_names_of_the_catalogue_differ_in_spelling_alone() -> None:
    assert len({re.sub(r"[\s_-]", "", name) for name in catalog.models()}) == len(catalog.models())


def test_an_unknown_models_shape_comes_from_the_rows_columns() -> None:
    columns = {"layers": "30", "d_model": "3072", "n_heads": "32", "vocab": "51200"}
    model = forecastable(model="GPT 3.6B", **columns).model
    assert (model.n_layers, model.d_model, model.d_ff, model.gated_mlp) == (30, 3072, 4 * 3072, False)
    experts = read(model="GPT 3.6B of 8 experts", **columns, params="20000000000")
    assert isinstance(experts, Skipped)
    assert experts.reason.endswith("columns make 3.58B parameters of a dense model, the row says 20.0B")


def test_layers_are_recomputed_where_words_or_the_papers_date_say_so() -> None:
    assert forecastable(activation_checkpointing="False").fixed.recompute is Recompute.NONE
    assert forecastable(activation_checkpointing="True").fixed.recompute is Recompute.FULL
    unsaid = {"activation_checkpointing": ""}
    assert forecastable(**unsaid).fixed.recompute is None
    assert forecastable(**unsaid, note="time with full recompute").fixed.recompute is Recompute.FULL
    assert forecastable(**unsaid, source_url="https://arxiv.org/pdf/2204.06745v1").fixed.recompute is Recompute.FULL
    assert forecastable(**unsaid, source_url="https://arxiv.org/abs/2205.14135").fixed.recompute is Recompute.FULL
    assert forecastable(**unsaid, source_url="https://arxiv.org/abs/2206.00001").fixed.recompute is None


def test_a_chip_without_the_rows_format_is_skipped() -> None:
    scored, skipped = forecast_rows([forecastable(chip="a100_80gb", precision="fp8")], published_calibration())
    assert not scored
    assert skipped[0].eligible
    assert "no peak in that format" in skipped[0].reason


def test_chips_that_nothing_known_joins_are_skipped() -> None:
    scored, skipped = forecast_rows([forecastable(chip="groq-lpu-v1")], published_calibration())
    assert not scored
    assert "neither its links nor its network are known" in skipped[0].reason
    assert forecast_rows([forecastable(chip="groq-lpu-v1", n_chips="1")], published_calibration())[0]


def test_numbers_may_have_commas_at_thousands() -> None:
    row = forecastable(global_batch_seqs="", global_batch_tokens="4,194,304", tokens_per_s_per_chip="5,000")
    assert (row.global_batch, row.tokens_per_s_per_chip) == (512, 5000)
    assert isinstance(read(n_chips="6,4"), Skipped), "not a separator of thousands"


def test_fp8_is_read_from_precision_or_note() -> None:
    assert forecastable(precision="fp8 rowwise").fp8
    assert not forecastable(precision="bf16", note="fp8 runs are a third faster").fp8
    assert forecastable(precision="", note="NVIDIA logs mix FP8").fp8


def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a readable CSV"):
        read_table(tmp_path / "absent.csv")
    empty = tmp_path / "empty.csv"
    empty.write_text("source,model\n")
    with pytest.raises(DataError, match="holds no rows"):
        read_table(empty)
    other = tmp_path / "other.csv"
    with other.open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b"], ["1", "2"]])
    with pytest.raises(DataError, match="column 'source' is missing"):
        list(throughput_rows(read_table(other), "other.csv"))
