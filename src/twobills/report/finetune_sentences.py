"""What came of fine-tuning, in words: the loss on answers before and after, what was taught, what the base had cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from twobills.report.tables import Table
from twobills.units import show_count, show_frac, show_usd, significant

Document = Mapping[str, Any]


def finetune_sentence(document: Document) -> str:
    """How much better the answers are foreseen that were held out."""
    quality, data = document["quality"], document["data"]
    before, after = quality["before_nats_per_token"], quality["after_nats_per_token"]
    if not (math.isfinite(before) and math.isfinite(after)):
        return "The loss on held-out answers is not a number any more: the run came apart."
    likelier = math.exp(before - after)
    taught = f"It was taught {data['n_sequences']:,} chats, {document['training']['epochs']:.3g} times each on average"
    words = (
        f"{taught}. On answers it never saw, a token now costs {significant(after)} nats instead of "
        f"{significant(before)}: each is {significant(likelier)} times as likely to be foreseen."
    )
    return words + _not_learned(data)


def finetune_table(document: Document) -> Table:
    """The chats and the loss on held-out answers."""
    quality, data = document["quality"], document["data"]
    share = data["n_answer_tokens"] / data["n_tokens"]
    rows = [
        ("chats learned / held out", f"{data['n_sequences']:,} / {data['n_heldout_sequences']:,}"),
        ("tokens, and how many are answers", f"{show_count(data['n_tokens'])}, {show_frac(share)}"),
        ("tokens added to the vocabulary", str(data["n_added_tokens"])),
        ("held-out answers before", f"{significant(quality['before_nats_per_token'])} nats per token"),
        ("held-out answers after", f"{significant(quality['after_nats_per_token'])} nats per token"),
    ]
    return Table("Fine-tuning", ("What", "How much"), [tuple(row) for row in rows])


def base_sentence(document: Document) -> str:
    """Which model it was made from, and what that had cost."""
    base = document["base"]
    known = base["training_bill"] and base["training_bill"].get("total_usd")
    cost = f"whose own training bill, {show_usd(known)}, is not in this one" if known else "whose own bill is not known"
    return f"It was made from {base['folder']} (weights {base['digest']}), {cost}."


def _not_learned(data: Document) -> str:
    parts = [
        f"{data[key]:,} {words}"
        for key, words in (("n_cut", "lost their end"), ("n_left_out", "had no answer within it and were left out"))
        if data[key]
    ]
    return f" Of chats longer than the context {' and '.join(parts)}." if parts else ""
