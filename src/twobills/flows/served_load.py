"""The load that the main job sends to the model it has trained: planned first, then served over HTTP and metered.

The server runs in a process of its own, as a user would start it, and bills its time into the same run. Prompts are
pieces of the held-out documents, so that nothing the model was trained on is asked of it, or classes of images.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tokenizers import Tokenizer

from twobills.errors import DigestError, ServerError
from twobills.flows.adapters.openai_load import LoadResult, send_load
from twobills.flows.image_data import TEMPERATURE as IMAGE_TEMPERATURE
from twobills.flows.image_data import image_prompts, image_workload, pictures
from twobills.flows.listener import Listener
from twobills.flows.planned_job import PlannedJob
from twobills.flows.server_process import server_process
from twobills.flows.serving_job import serving_spec
from twobills.flows.training_job import TrainedModel
from twobills.jobs.data.images import ImageCorpus
from twobills.ledger.store import Ledger
from twobills.plan.inference import InferencePlan, plan_inference
from twobills.specs.workload import Workload

WORKLOAD = Workload(n_requests=300, prompt_tokens=96, answer_tokens=64, concurrency=16)
TEMPERATURE = 0.7
N_SAMPLES = 4
STARTUP_S = 1.5
"""Assumed: seconds in which the server loads, starts and stops, paid for without a request."""


class ServedLoad(NamedTuple):
    """What came back, and what the server says of itself."""

    prompts: list[str]
    load: LoadResult
    digest_before: str
    digest_after: str
    images: ImageCorpus | None
    """Those that the model was trained on, if it was."""

    def pictures(self) -> dict[str, Any] | None:
        """What a model of images drew, beside real images."""
        if self.images is None:
            return None
        return pictures(self.images, [answer.text if answer.error is None else None for answer in self.load.answers])

    def samples(self) -> list[dict[str, str]]:
        """A few prompts, evenly spread, with what the model wrote after them; none of images."""
        if self.images is not None:
            return []
        answered = [i for i, answer in enumerate(self.load.answers) if answer.error is None]
        chosen = answered[:: max(1, len(answered) // N_SAMPLES)][:N_SAMPLES]
        return [{"prompt": self.prompts[i], "completion": self.load.answers[i].text} for i in chosen]


def workload(planned: PlannedJob) -> Workload:
    """What will be asked of the model."""
    return image_workload(planned.corpus) if isinstance(planned.corpus, ImageCorpus) else WORKLOAD


def plan_load(planned: PlannedJob) -> InferencePlan:
    """The predicted inference bill of the load. Raises SpecError if its contexts are too long for the model."""
    model, machine = planned.plan.model, planned.machine
    serving = serving_spec(model, machine.dtype)
    asked = workload(planned)
    return plan_inference(model, serving, asked, machine.spec, machine.found.rates, startup_s=STARTUP_S)


def serve_load(
    planned: PlannedJob, trained: TrainedModel, ledger: Ledger, run_id: str, listener: Listener
) -> ServedLoad:
    """Serves the frozen model to the load. Raises DigestError if it is not the one that was trained."""
    job, asked = planned.job, workload(planned)
    images = planned.corpus if isinstance(planned.corpus, ImageCorpus) else None
    prompts = image_prompts(images, asked) if images else _prompts(planned, trained)
    arguments = ["--dtype", planned.machine.dtype.value]
    if job.usd_per_chip_hour is not None:
        arguments += ["--usd-per-chip-hour", repr(job.usd_per_chip_hour)]
    with server_process(job.out, ledger=ledger.path, run_id=run_id, arguments=arguments) as server:
        load = send_load(
            server.url,
            prompts,
            concurrency=asked.concurrency,
            max_tokens=asked.answer_tokens,
            temperature=IMAGE_TEMPERATURE if images else TEMPERATURE,
            on_answer=lambda done: listener.serving(done, len(prompts)),
        )
        ended = server.stop()
    served = ServedLoad(prompts, load, ended["digest_before_serving"], ended["digest_after_serving"], images)
    _check(trained, served)
    return served


def _check(trained: TrainedModel, served: ServedLoad) -> None:
    """Raises DigestError if other weights were served than were trained, ServerError if no request was answered."""
    if {served.digest_before, served.digest_after} != {trained.digest}:
        raise DigestError(f"trained {trained.digest}, but served {served.digest_before}; did two runs share one --out?")
    errors = [answer.error for answer in served.load.answers]
    if all(errors):
        raise ServerError(f"none of {len(errors)} requests was answered; the first failed with: {errors[0]}")


def _prompts(planned: PlannedJob, trained: TrainedModel) -> list[str]:
    """Held-out text at evenly spread places, each ``prompt_tokens`` long where a document has so many."""
    tokenizer = Tokenizer.from_file(str(planned.job.out / "tokenizer.json"))
    length = WORKLOAD.prompt_tokens
    windows = [tokens[i : i + length] for tokens in trained.heldout_tokens for i in range(1, len(tokens), length)]
    windows = [window for window in windows if len(window) == length] or windows
    chosen = [windows[i * len(windows) // WORKLOAD.n_requests] for i in range(WORKLOAD.n_requests)]
    return [tokenizer.decode(window.tolist()) for window in chosen]
