"""What ``twobills plan`` was asked: a model or a saved plan, and what the command line says of it; and its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from twobills.errors import RequestError
from twobills.specs.plan_file import PlanSpec, plan_of, plan_to_toml, read_plan, read_traffic


def asked_plan(model: str, options: Mapping[str, Any]) -> PlanSpec:
    """The plan of a model and options, or of a file with options over it; an option that is None was not given.

    Raises RequestError, one line, for what contradicts itself.
    """
    names = {field.name for field in fields(PlanSpec)} - {"model"}
    given = {key: value for key, value in options.items() if key in names and value is not None}
    if isinstance(path := given.get("traffic"), Path):
        given["traffic"] = read_traffic(path)
    if not model.endswith(".toml"):
        return plan_of({"model": model, **given}, "plan")
    saved = read_plan(Path(model))
    if "traffic" in given:
        saved = replace(saved, requests_per_day=None, growth=0.0, decline=0.0)
    elif "requests_per_day" in given:
        saved = replace(saved, traffic=())
    return plan_of({**saved.to_json(), **given}, model)


def save_plan(asked: PlanSpec, path: Path) -> None:
    """Writes the plan's file. Raises RequestError where it cannot be written."""
    write_text(path, plan_to_toml(asked), "--save")


def write_text(path: Path, text: str, option: str) -> None:
    """Writes a file whole or not at all. Raises RequestError where it cannot be written."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise RequestError(f"{option} {path}: cannot be written ({error.strerror})") from None
