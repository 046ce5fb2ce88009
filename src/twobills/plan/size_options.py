"""The same quality had otherwise: quantised weights, a teacher, repeated data, several samples of a smaller model.

Each option changes how many tokens a size takes, or what an answer takes, and the best size is then sought anew; its
training is planned once more for the size that wins. What each rests on stands beside it: the laws were fitted far from
large models, quantising's constants are recalled, and what samples are worth is an assumption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from twobills.counts.llama_shape import llama_shape
from twobills.counts.params import count_params
from twobills.errors import SpecError
from twobills.laws.distillation import DistillationLaw, tokens_for_student
from twobills.laws.forms import Law, loss, outside_words
from twobills.laws.isoloss import FORWARD_FLOPS, TRAIN_FLOPS
from twobills.laws.precision import PrecisionLaw, tokens_when_quantised
from twobills.laws.quality import Reference
from twobills.laws.repeats import DataConstrainedLaw, effective_tokens, tokens_when_repeated
from twobills.laws.testtime import CoverageLaw, matched_inference_factor
from twobills.plan.size import Choice, Question, SizeTable, cheapest, ladder, size_table
from twobills.plan.size_costs import ServeOffer, trained
from twobills.specs.model import ModelSpec
from twobills.specs.weight_format import FORMATS

PLAIN = "bf16"
"""The format of a model as it is."""
N_SIZES = 18
"""Of an option that needs sizes of its own."""
TEACHER_FACTOR = 8.0
"""Assumed where no teacher is named: one of so many times the reference's parameters, trained on its tokens."""


class Option(NamedTuple):
    """One way to the same quality; figures are None where there is a reason."""

    kind: str
    label: str
    reason: str | None = None
    n_params: float | None = None
    n_tokens: float | None = None
    train_usd: float | None = None
    """A teacher's forward passes included."""
    teacher_usd: float | None = None
    inference_usd: float | None = None
    total_usd: float | None = None
    versus_usd: float | None = None
    """What it is held against: as is, under the same law."""
    train_flops: float | None = None
    inference_flops: float | None = None
    weights: str | None = None
    n_samples: int = 1
    epochs: float | None = None
    target_loss: float | None = None
    matched_inference_factor: float | None = None
    """Snell et al.: times its inference that this size could spend for what the size as is costs, in FLOPs."""
    assumed: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    """How far beyond what its laws were fitted on it lies."""


def quantised(asked: Question, table: SizeTable, law: PrecisionLaw, as_is_usd: float) -> Iterator[Option]:
    """Each format below 16 bits, what it loses made up by more data."""
    names = dict.fromkeys(each.name for _, each in asked.pairs if each.name != PLAIN)
    for name in names:
        bits = float(int(FORMATS[name].bits_per_weight))
        tokens = tokens_when_quantised(law, asked.law, table.n_params, asked.target_loss, bits)
        pairs = [i for i, (_, each) in enumerate(asked.pairs) if each.name == name]
        option = Option("quantised", f"{name} weights", versus_usd=as_is_usd, weights=name)
        yield _filled(
            asked,
            table,
            option._replace(
                assumed=(
                    f"{name}: the loss that {bits:g} bits add is Kumar et al.'s for integers, its constants recalled, "
                    "added to another law's",
                )
            ),
            cheapest(table, pairs, n_tokens=tokens),
            "no amount of data makes up for what so few bits lose",
            laws=(law.law,),
        )


def repeated(
    asked: Question, table: SizeTable, pairs: Sequence[int], law: DataConstrainedLaw, n_unique: float, as_is_usd: float
) -> Option:
    """No more than so many different tokens."""
    tokens = tokens_when_repeated(asked.law, table.n_params, asked.target_loss, n_unique, law)
    option = Option("repeated", "repeated data", versus_usd=as_is_usd, weights=PLAIN)
    found = _filled(
        asked,
        table,
        option,
        cheapest(table, pairs, n_tokens=tokens),
        f"repeats of {n_unique:.3g} different tokens never teach enough: at best they are worth "
        f"{effective_tokens(1e30, n_unique):.3g}",
        laws=(law.law,),
    )
    if found.n_tokens is None:
        return found
    words = "what repeats are worth is Muennighoff et al.'s, the loss of new data another law's"
    return found._replace(epochs=max(found.n_tokens / n_unique, 1.0), assumed=(words,))


class Teacher(NamedTuple):
    """A model that is there already."""

    name: str
    model: ModelSpec
    n_params: float
    n_tokens: float
    assumed: bool


def usual_teacher(reference: Reference) -> Teacher:
    """Where none is named."""
    model = llama_shape(TEACHER_FACTOR * reference.n_params)
    return Teacher("assumed", model, float(count_params(model).active), reference.n_tokens, True)


def distilled(asked: Question, law: DistillationLaw, reference: Reference, teacher: Teacher) -> Option:
    """A student of a teacher, held against the same law without one; the teacher's forward passes are training."""
    target, teacher_loss = (loss(law.law, n, d) for n, d in (reference, (teacher.n_params, teacher.n_tokens)))
    own = asked._replace(law=law.law, target_loss=target, serve=_plain(asked))
    assumed = (
        f"distilled: quality and both sizes are by {law.law.name}; held against its own best size without a teacher",
        *([f"a teacher of {TEACHER_FACTOR:g} times the size, trained on as much, is there"] if teacher.assumed else []),
    )
    option = Option("distilled", "distilled student", weights=PLAIN, target_loss=target, assumed=assumed)
    try:
        table = size_table(own, ladder(law.law, target, N_SIZES))
    except SpecError as error:
        return option._replace(reason=str(error))
    pairs = range(len(own.pairs))
    alone = cheapest(table, pairs)
    if alone is None:
        return option._replace(reason="no size fits the chips")
    try:
        taught = trained(
            table.models[alone.size], alone.n_tokens, own.train[alone.offer], own.terms, teacher=teacher.model
        )
    except SpecError as error:
        return option._replace(reason=str(error), versus_usd=alone.total_usd)
    per_token = max(taught.bill.total_usd - alone.train_usd, 0.0) / alone.n_tokens
    tokens = np.array([tokens_for_student(law, float(n), target, teacher_loss) for n in table.n_params])
    choice = cheapest(table, pairs, n_tokens=tokens, usd_per_token=per_token)
    worse = f"a student of this teacher never gets to loss {target:.4g}: the teacher's own is {teacher_loss:.4g}"
    return _filled(own, table, option._replace(versus_usd=alone.total_usd), choice, worse, (own.law,), teacher)


def sampled(asked: Question, law: CoverageLaw, n_samples: int, as_is: Option) -> Option:
    """A model that answers so many times, the best of which is taken: it may be worse at each.

    Coverage exp(a k^b) with -ln coverage in proportion to the reducible loss: k samples do for k^-b times that loss.
    """
    target = asked.law.E + (asked.target_loss - asked.law.E) * n_samples**-law.b
    own = asked._replace(target_loss=target, serve=_plain(asked), service=asked.service._replace(n_samples=n_samples))
    assumed = (
        f"samples: something can tell which of them is right; -ln coverage is in proportion to the reducible loss; "
        f"exponent {law.b:g} of {law.name}",
    )
    option = Option(
        "samples",
        f"{n_samples} samples an answer",
        versus_usd=as_is.total_usd,
        weights=PLAIN,
        n_samples=n_samples,
        target_loss=target,
        assumed=assumed,
    )
    try:
        table = size_table(own, ladder(own.law, target, N_SIZES))
    except SpecError as error:
        return option._replace(reason=str(error))
    found = _filled(own, table, option, cheapest(table, range(len(own.pairs))), "no size fits the chips")
    once = asked.service
    if found.n_params is None or found.n_tokens is None or as_is.n_params is None or not once.tokens:
        return found
    ratio = as_is.n_params / found.n_params
    factor = matched_inference_factor(ratio, once.tokens / found.n_tokens) if ratio > 1 else None
    return found._replace(matched_inference_factor=factor)


def as_is(asked: Question, table: SizeTable, choice: Choice) -> Option:
    """The best size without any of this."""
    option = Option("as_is", "as it is", versus_usd=choice.total_usd, weights=PLAIN)
    return _filled(asked, table, option, choice, "no size fits the chips")


def _plain(asked: Question) -> tuple[ServeOffer, ...]:
    return tuple(offer._replace(weights=(FORMATS[PLAIN],)) for offer in asked.serve)


def _filled(
    asked: Question,
    table: SizeTable,
    option: Option,
    choice: Choice | None,
    reason: str,
    laws: Sequence[Law] = (),
    teacher: Teacher | None = None,
) -> Option:
    """The option with the figures of its choice, its training planned at its own data."""
    if choice is None:
        return option._replace(reason=reason)
    model, n_params = table.models[choice.size], float(table.n_params[choice.size])
    try:
        alone = trained(model, choice.n_tokens, asked.train[choice.offer], asked.terms)
        run = (
            alone
            if teacher is None
            else trained(model, choice.n_tokens, asked.train[choice.offer], asked.terms, teacher=teacher.model)
        )
    except SpecError as error:
        return option._replace(reason=str(error))
    training, forward = run.bill.total_usd, FORWARD_FLOPS * teacher.n_params * choice.n_tokens if teacher else 0.0
    return option._replace(
        n_params=n_params,
        n_tokens=choice.n_tokens,
        train_usd=training,
        teacher_usd=training - alone.bill.total_usd if teacher else None,
        inference_usd=choice.serve_usd,
        total_usd=training + choice.serve_usd,
        train_flops=TRAIN_FLOPS * n_params * choice.n_tokens + forward,
        inference_flops=FORWARD_FLOPS * n_params * asked.service.tokens,
        weights=asked.pairs[choice.pair][1].name,
        target_loss=asked.target_loss,
        outside=tuple(_outside(laws or (asked.law,), n_params, choice.n_tokens, teacher)),
    )


def _outside(laws: Sequence[Law], n_params: float, n_tokens: float, teacher: Teacher | None) -> Iterator[str]:
    for law in dict.fromkeys(laws):
        if words := outside_words(law, n_params, n_tokens):
            yield words
        if teacher is not None and (words := outside_words(law, teacher.n_params, teacher.n_tokens)):
            yield f"its teacher {words}"
