from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobills.errors import RequestError, SpecError
from twobills.specs import catalog
from twobills.specs.data import DataSpec
from twobills.specs.dtype import DType
from twobills.specs.efficiency import interpolate
from twobills.specs.job import TrainingJob, read_job
from twobills.specs.limits import Limits
from twobills.specs.serving import ServingSpec
from twobills.specs.training import TrainingSpec
from twobills.specs.workload import Workload


def test_number_formats_have_one_name_and_many_spellings() -> None:
    assert DType.parse("bfloat16") is DType.parse("bf16") is DType.BF16
    assert DType.INT4.bytes == 0.5
    with pytest.raises(SpecError, match="dtype='bf17': unknown; one of fp32"):
        DType.parse("bf17")


CURVE = ((1.0, 10.0), (100.0, 1000.0))


@given(st.floats(min_value=1e-3, max_value=1e6))
def test_a_curve_is_read_between_its_ends(size: float) -> None:
    rate = interpolate(CURVE, size)
    assert 10 <= rate <= 1000 * (1 + 1e-9)


def test_a_curve_is_straight_in_log_space() -> None:
    assert interpolate(CURVE, 10.0) == pytest.approx(100.0)
    assert interpolate(CURVE, 0.5) == 10.0
    assert interpolate(CURVE, 1e9) == 1000.0


@pytest.mark.parametrize("table", ["chips", "models", "laws"])
def test_every_row_says_where_it_comes_from(table: str) -> None:
    for name, row in catalog.read_rows(table).items():
        assert row["source"], name
        assert row["as_of"], name
        assert isinstance(row["verified"], bool), name


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ServingSpec(max_batch_size=0), "max_batch_size=0"),
        (lambda: ServingSpec(max_batch_size=64, batch_size_tokens=32), "batch_size_tokens=32"),
        (lambda: ServingSpec(n_kv_blocks=1), "n_kv_blocks=1"),
        (lambda: Workload(n_requests=1, prompt_tokens=0, answer_tokens=1, concurrency=1), "prompt_tokens=0"),
        (
            lambda: TrainingSpec(n_steps=0, batch_size=1, seq_len=1, dtype=DType.BF16, heldout_tokens=0),
            "n_steps=0",
        ),
        (
            lambda: TrainingSpec(n_steps=1, batch_size=1, seq_len=1, dtype=DType.BF16, heldout_tokens=0, lr=2.0),
            "lr=2.0",
        ),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(build: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build()  # type: ignore[operator]


def job_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(text)
    return path


def test_a_job_file_is_read_with_overrides(tmp_path: Path) -> None:
    path = job_file(tmp_path, 'out = "model"\nminutes = 5\n[training]\nlr = 0.01\n')
    job = read_job(path, ["minutes=1.5", "training.muon_lr=0.03", "data=corpus"])
    assert job == TrainingJob(
        out=tmp_path / "model",
        data=DataSpec.of(tmp_path / "corpus"),
        minutes=1.5,
        training={"lr": 0.01, "muon_lr": 0.03},
    )


def test_a_job_has_limits_and_watchers(tmp_path: Path) -> None:
    job = read_job(
        job_file(tmp_path, 'out = "m"\nwatch = ["trackio"]\n[limits]\nmax_usd = 2\n'), ["limits.max_flops=1e15"]
    )
    assert job.limits == Limits(max_usd=2, max_flops=1e15)
    assert job.limits
    assert not Limits()
    assert job.watch == ("trackio",)


def test_the_length_that_is_asked_for_replaces_the_files(tmp_path: Path) -> None:
    shape = "[model]\nn_layers = 1\nd_model = 8\nn_heads = 1\nn_kv_heads = 1\nd_ff = 8\n"
    job = read_job(job_file(tmp_path, f'out = "m"\nminutes = 5\n{shape}'), ["steps=7"])
    assert (job.steps, job.minutes) == (7, TrainingJob(out=Path("m")).minutes)


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ('out = "m"\nminuets = 5\n', [], "unknown key 'minuets'; known are out, data, minutes"),
        ("minutes = 5\n", [], "out is missing"),
        ('out = "m"\nminutes = 0\n', [], "minutes=0: must be above 0"),
        ('out = "m"\nminutes = "two"\n', [], "minutes='two': must be a number"),
        ('out = "m"\nseed = 1.5\n', [], "seed=1.5: must be a whole number"),
        ('out = "m"\nmodel = 3\n', [], "model=3: must be a table"),
        ('out = "m"\n[model]\nd_model = 64\n', [], "n_layers is missing; give the whole shape"),
        ('out = "m"\n[model]\nwidth = 64\n', [], "unknown key 'width'"),
        ('out = "m"\ndtype = "fp8"\n', [], "dtype='fp8': must be one of bf16, fp32"),
        ('out = "m"\n[training]\nlr = "high"\n', [], "training.lr='high': must be a number"),
        ('out = "m"\nvocab_size = 10\n', [], "vocab_size=10: must be between"),
        ('out = "m"\nseed = -1\n', [], "seed=-1: must be between 0"),
        ('out = "m"\n[training]\nlr = -1\n', [], "lr=-1: must be between 0 and 1"),
        ('out = "m"\nusd_per_chip_hour = inf\n', [], "usd_per_chip_hour=inf: must be a number of dollars"),
        ("out = \n", [], "not TOML"),
        ('out = "m"\nsteps = 1.5\n', [], "steps=1.5: must be a whole number"),
        ('out = "m"\nsteps = -1\n', [], "steps=-1: must be 0 or more"),
        ('out = "m"\nsteps = 5\n', [], r"give \[model\] too; only minutes let the plan choose"),
        ('out = "m"\ntokens = 5\n', [], "tokens=5: less than one step"),
        ('out = "m"\nminutes = 1\ntokens = 1e6\n', [], "minutes and tokens: give one of minutes, steps, tokens"),
        ('out = "m"\nwatch = "telly"\n', [], "watch='telly': must be of tensorboard, trackio"),
        ('out = "m"\nlimits = 3\n', [], "limits=3: must be a table"),
        ('out = "m"\n[limits]\nmax_eur = 3\n', [], r"\[limits\]: unknown key 'max_eur'; known are max_usd"),
        ('out = "m"\n[limits]\nmax_usd = 0\n', [], "max_usd=0: must be a number above 0"),
        ('out = "m"\n[limits]\nmax_flops = true\n', [], "limits.max_flops=True: must be a number"),
        ('out = "m"\n', ["minutes"], "--set minutes: must be key=value"),
        ('out = "m"\n', ["out.deep=1"], "out is not a table"),
    ],
)
def test_a_job_that_makes_no_sense_is_one_line(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        read_job(job_file(tmp_path, text), overrides)
    assert "\n" not in str(caught.value)


def test_the_example_holds_the_defaults() -> None:
    """The file in ``examples`` is a job as if nothing had been said, its commented shape included."""
    path = Path(__file__).parents[2] / "examples" / "train.toml"
    job, defaults = read_job(path), TrainingSpec(n_steps=1, batch_size=1, seq_len=1, dtype=DType.BF16, heldout_tokens=0)
    assert job == TrainingJob(out=job.out, training=job.training)
    assert job.training == {name: getattr(defaults, name) for name in job.training}


def test_a_missing_job_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"nowhere.toml: cannot be read"):
        read_job(tmp_path / "nowhere.toml")
