from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twobills.errors import CatalogError, RequestError, SpecError
from twobills.flows.asked import parse_chips, resolve_model
from twobills.flows.plan_training import TrainingRequest, planned_run
from twobills.flows.training_bill import plan_training_document
from twobills.plan.space import Fixed
from twobills.report.documents import to_json_text
from twobills.specs.dtype import DType
from twobills.specs.prices import PriceKind
from twobills.specs.run import JobKind
from twobills.units import JOULES_PER_KWH, SECONDS_PER_DAY, SECONDS_PER_HOUR, show_frac

ASKED = TrainingRequest(model="llama-3.1-8b", tokens="1T", chips="h100-sxm:256")
MINE = """
[chip.secret]
vendor = "us"
family = "hopper"
bf16_tflops = 900
memory_gib = 96
memory_gb_per_s = 4000
source = "us"
as_of = "2026-01-01"
"""


def asked(**change: Any) -> dict[str, Any]:
    return plan_training_document(replace(ASKED, **change))


def test_the_document_is_json_in_base_units() -> None:
    document = plan_training_document(ASKED, with_parts=True)
    training = json.loads(to_json_text(document))["training"]
    for figure in ("total_usd", "wall_s", "chip_s", "facility_j", "step_s", "tokens_per_s", "mfu", "hfu"):
        assert set(training[figure]) == {"value", "p5", "p95"}
        assert training[figure]["p5"] <= training[figure]["value"] <= training[figure]["p95"]
    assert training["wall_days"]["value"] * SECONDS_PER_DAY == pytest.approx(training["wall_s"]["value"])
    assert training["chip_hours"]["p5"] * SECONDS_PER_HOUR == pytest.approx(training["chip_s"]["p5"])
    assert training["energy_mwh"]["value"] * 1e3 * JOULES_PER_KWH == pytest.approx(training["facility_j"]["value"])
    assert sum(part["step_s"] for part in document["step_parts"]) == pytest.approx(training["step_s"]["value"])
    assert "matmul parameters" in training["mfu_convention"]


def test_parts_of_a_model_that_are_not_counted_are_named_among_what_is_assumed() -> None:
    assert "not counted of gemma-3-27b: vision model" in asked(model="gemma-3-27b")["assumed"]
    assert not [line for line in asked()["assumed"] if "not counted of" in line]


def test_memory_adds_up_to_what_the_chip_has() -> None:
    memory = asked()["training"]["memory"]
    parts = sum(value for name, value in memory.items() if name != "available_bytes")
    assert parts == pytest.approx(memory["available_bytes"])


@pytest.mark.parametrize("terms", [{}, {"owned": True}, {"usd_per_chip_hour": 2.0}, {"usd_per_chip_hour": 0.0}])
def test_each_dollar_goes_to_somebody(terms: dict[str, Any]) -> None:
    training = asked(**terms)["training"]
    split = training["split"]
    assert sum(part["usd"] for part in split["parts"]) == pytest.approx(training["bill"]["total_usd"], abs=1e-6)
    assert split["tenure"] == ("owned" if "owned" in terms else "rented")


def test_the_users_price_is_the_price() -> None:
    training = asked(usd_per_chip_hour=2.0)["training"]
    assert training["total_usd"]["value"] == pytest.approx(2 * training["chip_hours"]["value"])


def test_a_kind_of_price_is_looked_up() -> None:
    rates = asked(price_kind=PriceKind.SPOT)["training"]["bill"]["rates"]
    assert rates != asked()["training"]["bill"]["rates"]
    with pytest.raises(CatalogError, match="--price-kind own: chip h100-sxm has none of that kind; it has on_demand"):
        asked(price_kind=PriceKind.OWN)


def test_levers_are_what_they_save() -> None:
    document = asked()
    before = document["training"]["total_usd"]["value"]
    levers = document["training"]["levers"]
    assert levers == sorted(levers, key=lambda lever: lever["total_usd"])
    for lever in levers:
        assert lever["saves_usd"] == pytest.approx(before - lever["total_usd"])
    fp8 = next(lever for lever in levers if lever["change"] == "training in fp8")
    assert fp8["total_usd"] == pytest.approx(asked(dtype=DType.FP8)["training"]["total_usd"]["value"])


def test_the_batch_is_what_was_asked_for() -> None:
    assert asked(batch_size=512)["training"]["batch_size"] == 512
    assert asked(batch_tokens="4.2M", seq_len=4096)["training"]["batch_size"] == 1024, "within 5 % of 1025"
    assert any(line.startswith("batch of") for line in asked()["assumed"])
    assert not any(line.startswith("batch of") for line in asked(batch_size=512)["assumed"])


def test_what_is_assumed_is_said() -> None:
    lines = asked(chips="mi300x:256", usd_per_chip_hour=3.0)["assumed"]
    assert any("mean of the families that were fitted" in line for line in lines)
    inferring = asked(model="smollm2-135m", chips="t4:8", usd_per_chip_hour=1.0)["assumed"]
    assert any("made or sold for inference" in line for line in inferring)
    shape = asked(model=None, params="8e9")["assumed"]
    assert any("32 layers of width 4096" in line for line in shape)
    lora = asked(job=JobKind.LORA, tokens="1B")["assumed"]
    assert any("adapters" in line for line in lora)


def test_flags_reach_the_run() -> None:
    plan = planned_run(
        replace(ASKED, network_gbps=100, pue=1.5, mtbf_hours=1e4, evaluation_frac=0.2, failures=True)
    ).plan
    assert plan.cluster.scaleout_bytes_per_s == 12.5e9
    assert plan.running.pue == 1.5
    assert plan.running.mtbf_chip_s == 3.6e7
    assert plan.goodput.useful_s == pytest.approx(1.2 * plan.figures.train_s.value)
    assert planned_run(replace(ASKED, failures=False)).plan.goodput.n_failures == 0


def test_a_users_own_chip_and_what_is_not_known_of_it(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(MINE)
    given = {"chips": "secret", "catalog_file": mine, "usd_per_chip_hour": 1.0, "model": "smollm2-135m"}
    training = asked(**given)["training"]
    assert training["split"] is None
    assert "what it costs to buy" in training["split_reason"]
    assert training["facility_j"] is None
    assert "no power of secret" in training["reason"]
    with pytest.raises(SpecError, match=r"chip secret: what it costs to buy .* is not known, so owning"):
        asked(**{**given, "usd_per_chip_hour": None, "owned": True})
    with pytest.raises(CatalogError, match="nobody's is in the catalogue"):
        asked(**{**given, "usd_per_chip_hour": None})
    with pytest.raises(
        SpecError, match=r"neither its links nor its network are known.* --catalog .* or with --network-gbps$"
    ):
        asked(**{**given, "chips": "secret:8"})
    mine.write_text(MINE.replace("memory_gib = 96\n", ""))
    with pytest.raises(SpecError, match="chip secret: memory_bytes is not known"):
        asked(**given)


@pytest.mark.parametrize(
    ("text", "name", "n_chips"), [("h100", "h100", 1), ("h100:8", "h100", 8), ("tpu-v5p:8960", "tpu-v5p", 8960)]
)
def test_chips_are_a_name_and_a_count(text: str, name: str, n_chips: int) -> None:
    assert parse_chips(text) == (name, n_chips)


@pytest.mark.parametrize("text", ["h100:", "h100:x", "h100:0", "h100:-1", ":8", "", "h100:8,a100:8"])
def test_chips_that_are_malformed_say_how_to_write_them(text: str) -> None:
    with pytest.raises(RequestError, match=r"^--chips '.*': (write it as NAME:COUNT|one kind of chip trains)"):
        parse_chips(text)


def test_a_model_is_a_name_a_file_or_a_folder(tmp_path: Path) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "intermediate_size": 1024,
        "vocab_size": 1000,
        "max_position_embeddings": 2048,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert resolve_model(str(tmp_path)) == resolve_model(str(tmp_path / "config.json"))
    assert resolve_model("llama-3.1-8b").name == "llama-3.1-8b"
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "hidden_size"}))
    with pytest.raises(SpecError, match=r"config\.json: hidden_size: missing"):
        resolve_model(str(tmp_path))
    with pytest.raises(RequestError, match=r"near it: llama-3\.1-8b.* a path to a config\.json"):
        resolve_model("lama-3.1-8b")


def test_a_model_or_a_size() -> None:
    for given in ({"model": None}, {"params": "8e9"}):
        with pytest.raises(RequestError, match="MODEL or --params"):
            asked(**given)


def test_one_batch_only() -> None:
    with pytest.raises(RequestError, match="--batch-tokens and --batch-size"):
        asked(batch_size=8, batch_tokens="1M")


def test_a_chip_that_nobody_rents_out_is_priced_as_owned_and_says_so() -> None:
    document = asked(chips="mi300x:256")
    rates = document["training"]["bill"]["rates"]
    assert rates["assumed"]
    assert "priced as owned" in rates["source"]
    owned = asked(chips="mi300x:256", owned=True)
    assert document["training"]["bill"]["total_usd"] == owned["training"]["bill"]["total_usd"]
    with pytest.raises(CatalogError, match="price for chip 'gb200'"):
        asked(chips="gb200:72")


def test_a_batch_in_tokens_is_one_that_the_chips_can_share() -> None:
    document = asked(chips="h100-sxm:500", batch_tokens="16M", seq_len=8192)
    assert document["training"]["batch_size"] == 2000, "16M / 8192 is 1953.1"
    assert "batch of 2,000 sequences, 2.40 % more than asked, which 500 chips can share out" in document["assumed"]
    exact = asked(batch_tokens="4194304", seq_len=8192)
    assert exact["training"]["batch_size"] == 512
    assert not any(line.startswith("batch of") for line in exact["assumed"])


def test_a_batch_in_tokens_never_outgrows_the_run() -> None:
    assert asked(model="gpt2", tokens="1M", chips="h100-sxm:8", batch_tokens="1M")["training"]["batch_size"] <= 976


def test_a_given_batch_that_is_shared_badly_is_kept_and_the_better_one_named() -> None:
    given = {"model": "smollm2-135m", "chips": "h100-sxm:64"}
    bad, good = asked(**given, batch_size=63), asked(**given, batch_size=64)
    assert bad["training"]["batch_size"] == 63
    said = next(line for line in bad["assumed"] if line.startswith("batch of 63"))
    faster = good["training"]["tokens_per_s"]["value"] / bad["training"]["tokens_per_s"]["value"]
    assert faster > 1.1
    assert f"64 would train {show_frac(faster - 1)} more tokens a second" in said
    assert not any(line.startswith("batch of") for line in good["assumed"])


def test_sequences_are_as_long_as_in_the_models_own_pre_training(tmp_path: Path) -> None:
    """DeepSeek-V3 was trained at 4K (arXiv:2412.19437), though it has positions for 160K."""
    document = asked(model="deepseek-v3", chips="h800:2048", usd_per_chip_hour=2.0)
    assert document["training"]["seq_len"] == 4096
    assert "sequences of 4096 tokens as in the model's own pre-training" in document["assumed"]
    assert asked(model="mistral-7b")["training"]["seq_len"] == 8192, "its own is not known"
    assert (
        asked(model="deepseek-v3", chips="h800:2048", usd_per_chip_hour=2.0, seq_len=8192)["training"]["seq_len"]
        == 8192
    )
    own = tmp_path / "own.toml"
    own.write_text(f"[chip.secret]{MINE.partition(']')[2]}")
    assert (
        asked(model="deepseek-v3", chips="h800:2048", usd_per_chip_hour=2.0, catalog_file=own)["training"]["seq_len"]
        == 4096
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"chips": "h100:1.5"}, "--chips 'h100:1.5': write it as NAME:COUNT in whole chips"),
        ({"chips": "h100:1e9"}, "--chips 'h100:1e9': at most 100,000,000 chips"),
        ({"tokens": "1e24"}, r"--tokens 1e24: must be at most 1e\+18"),
        ({"batch_tokens": "1e24"}, r"--batch-tokens 1e24: must be at most 1e\+18"),
        ({"usd_per_chip_hour": 2e6}, "must be a number of dollars from 0 to 1,000,000"),
        ({"usd_per_chip_hour": -1.0}, "--usd-per-chip-hour -1: must be a number of dollars"),
        ({"usd_per_chip_hour": math.inf}, "--usd-per-chip-hour inf: must be a number of dollars"),
        ({"usd_per_chip_hour": math.nan}, "--usd-per-chip-hour nan: must be a number of dollars"),
        ({"owned": True, "usd_per_chip_hour": 2.0}, "--owned and --usd-per-chip-hour: give one of the two"),
        ({"owned": True, "price_kind": PriceKind.SPOT}, "--owned and --price-kind: give one of the two"),
        ({"price_kind": PriceKind.SPOT, "usd_per_chip_hour": 2.0}, "--usd-per-chip-hour and --price-kind: give one"),
        ({"failures": False, "mtbf_hours": 1e4}, "--no-failures and --mtbf-hours: give one of the two"),
        ({"mtbf_hours": 0.0}, "--mtbf-hours 0: must be above 0"),
        ({"mtbf_hours": 0.01}, r"256 chips: a failure every .* cannot make progress .*--mtbf-hours"),
        ({"evaluation_frac": 11.0}, "--evaluate-frac 11: must be between 0 and 10"),
        ({"network_gbps": math.inf}, "--network-gbps inf: must be a number above 0"),
        ({"fixed": Fixed(shard=7)}, "shard=7: must divide dp x cp"),
        ({"fixed": Fixed(pp=1, interleave=2)}, "interleave=2: needs pipeline stages"),
        ({"job": JobKind.LORA, "lora_rank": 5000}, "--lora-rank 5000: above d_model=4096 of llama-3.1-8b"),
        ({"catalog_file": Path("nope.toml")}, r"^nope\.toml: cannot be read \([^;]*\)$"),
    ],
)
def test_what_cannot_be_is_one_line_in_the_users_words(changed: dict[str, Any], message: str) -> None:
    with pytest.raises((RequestError, SpecError), match=message) as error:
        asked(**changed)
    assert "\n" not in str(error.value)
    assert not {"mtbf_chip_s", "scaleout_bytes_per_s"} & set(str(error.value).replace("=", " ").split())


def test_levers_of_a_run_whose_failures_are_given_leave_them_out() -> None:
    names = [lever["change"] for lever in asked(mtbf_hours=1e4)["training"]["levers"]]
    assert "losing nothing to failures and pauses" in names


def test_an_interleaved_run_has_pipeline_stages() -> None:
    parallel = asked(fixed=Fixed(interleave=2))["training"]["parallel"]
    assert parallel["interleave"] == 2
    assert parallel["pp"] > 1


def test_a_short_run_neither_pauses_nor_stands_still() -> None:
    short = asked(model="gpt2", tokens="20k", chips="h100-sxm")["training"]
    assert short["wall_s"]["value"] < 60
    lora = asked(job=JobKind.LORA, tokens="100M", chips="h100-sxm:8")["training"]
    assert lora["wall_s"]["value"] < 24 * 3600
    assert lora["goodput"]["pauses_s"] == 0
    assert asked()["training"]["goodput"]["pauses_s"] > 0


def test_what_is_used_of_failures_power_and_capital_is_among_the_assumed_unless_given() -> None:
    usual = " ".join(asked()["assumed"])
    for words in (
        "a failure of one chip every",
        "PUE",
        "electricity at $",
        "written off in",
        "in runs of 2 days or more",
    ):
        assert words in usual
    given = " ".join(asked(pue=1.3, mtbf_hours=1e4)["assumed"])
    assert "PUE" not in given
    assert "a failure of one chip" not in given
    calm = asked(failures=False)
    assert any(line.startswith("nothing fails: ") for line in calm["assumed"])
    assert not any(line.startswith("from a failure") for line in calm["assumed"])
    spread = {kind: asked(failures=kind)["training"]["chip_s"] for kind in (True, False)}
    ratios = {kind: figure["p95"] / figure["value"] for kind, figure in spread.items()}
    assert ratios[True] == pytest.approx(ratios[False])


def test_what_is_only_remembered_of_a_chip_is_in_words() -> None:
    line = next(line for line in asked()["assumed"] if line.startswith("data sheet of h100-sxm"))
    assert "how many chips the fast links join" in line
    assert "_" not in line
