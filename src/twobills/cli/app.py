"""``twobills``: the two bills of an AI model, planned, run, metered and reconciled."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from twobills import __version__
from twobills.cli.chips import chips_app
from twobills.cli.generate import generate
from twobills.cli.laws import laws_app
from twobills.cli.ledger import ledger_app
from twobills.cli.machine import machine
from twobills.cli.plan import plan_app
from twobills.cli.run import run
from twobills.cli.runtime import is_silent, leaving_quickly
from twobills.cli.search import search_app
from twobills.cli.serve import serve
from twobills.cli.size import size
from twobills.cli.train import train
from twobills.cli.validate import validate_app
from twobills.errors import GroupError, MissingExtraError, TwobillsError

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Plan, run, meter and reconcile the two bills of an AI model: training, paid once, and inference, paid for "
    "every token.",
)
_RUN_EXTRA = {
    "torch",
    "tokenizers",
    "safetensors",
    "numpy",
    "fastapi",
    "uvicorn",
    "httpx",
    "prometheus_client",
}

for command in (run, train, serve, generate, machine, size):
    app.command()(command)
app.add_typer(plan_app, name="plan")
app.add_typer(chips_app, name="chips")
app.add_typer(laws_app, name="laws")
app.add_typer(ledger_app, name="ledger")
app.add_typer(search_app, name="search")
app.add_typer(validate_app, name="validate")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"twobills {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    del version


def main() -> None:
    """Runs the command line; a user's mistake ends in one line on stderr and the status that errors.py gives it.

    SIGTERM ends a job as Ctrl-C does, its bill kept; only a server that serves takes it as its ordinary end.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with leaving_quickly():
        _run()


def _run() -> NoReturn:
    if os.environ.get("NO_COLOR"):
        os.environ.pop("FORCE_COLOR", None)  # whoever sets both wants none: the help's own library thinks otherwise
    try:
        status = app(prog_name="twobills", standalone_mode=False)
    except TyperException as error:
        _fail_as_asked(error)
    except typer.Abort:
        _fail(TwobillsError("ended before it was done"))
    except TwobillsError as error:
        _fail(error)
    except (OSError, MemoryError) as error:
        _fail(TwobillsError(str(error) or "out of memory"))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "scipy":
            _fail(MissingExtraError("fitting and leaving rows out need SciPy: pip install 'twobills[fit]'"))
        if package not in _RUN_EXTRA:
            raise
        _fail(MissingExtraError(f"this command needs PyTorch ({error.name} is missing): pip install 'twobills[run]'"))
    else:
        sys.exit(status if isinstance(status, int) else 0)


def _fail_as_asked(error: TyperException) -> NoReturn:
    """A missing, unknown or impossible option, in the one line that every other mistake is."""
    context = getattr(error, "ctx", None)
    words = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    if words and not is_silent():  # no words where the help was printed, nothing having been asked
        hint = f"; `{context.command_path} --help` shows what there is" if context else ""
        print(f"twobills: {words}{hint}", file=sys.stderr)
    sys.exit(error.exit_code)


def _fail(error: TwobillsError) -> NoReturn:
    if error.spoken if isinstance(error, GroupError) else not is_silent():
        print(f"twobills: {error}", file=sys.stderr)
    sys.exit(error.exit_status)
