"""Define the command line: the commands in the order of `runner --help`. Each imports what it needs when it is called.

`--help` and `status` therefore load neither torch nor mlflow nor pandas. Exit codes: 1 if a job failed, 2 for a user's mistake
(with one line on stderr), 130 after Ctrl-C.
"""

import io
import os
import sys
from typing import Annotated, Any

import typer

from benchmarks.checkout import PACKAGES, commit_of
from benchmarks.errors import UserError
from runner.commands import data, jobs, models, results, submit


class _Commands(typer.core.TyperGroup):
    """Lists each command with the whole first line of its help; click would truncate it."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, (command.help or "").partition("\n")[0]) for name, command in commands if command]
            )


app = typer.Typer(
    cls=_Commands,
    help="Train models from their papers' recipes, and compare the measured errors with the reported ones.\n\n"
    "Start with: runner submit --suite quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(
    cls=_Commands, help="Show, download and import data sets.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data_app, name="data")


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("reprozoo")
        except PackageNotFoundError:  # a checkout that was not installed
            number = "not installed"
        print(f"reprozoo {number}, commit {commit_of(PACKAGES) or 'unknown'}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and the commit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Accept the options that stand before a command."""


for command in (
    *(submit.submit, submit.quickstart, jobs.status, jobs.logs, jobs.stop, jobs.retry, jobs.sync, jobs.doctor),
    *(results.report, results.show, results.site, results.publish, results.verify, results.reproduce),
    *(models.suites, models.models, models.bench),
):
    app.command()(command)
app.command("try")(models.try_)
app.command("new-model")(models.new_model)
app.command()(models.check)
data_app.command("prepare")(data.prepare)
data_app.command("import")(data.import_)
data_app.command("status")(data.status_)


def main() -> None:
    """Run the command line and exit with its code."""
    from runner.sources import check_modules

    for stream in (sys.stdout, sys.stderr):  # a terminal without ✓ shows ?
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        check_modules()
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        code = _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:  # `runner ... | head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except SyntaxError as error:  # in a shared file of ours; zoo/__init__.py reports one in a model's file
        code = _fail(f"{error.filename}:{error.lineno}: {error.msg}")
    except OSError as error:  # a root that is a file, a folder that can't be written, a full disk
        code = _fail(f"{error.filename or 'a file'}: {error.strerror or error}")
    except Exception as error:
        message = getattr(error, "format_message", None)  # a mistyped option or command, in typer's words
        if message is None:
            raise
        if message().startswith("Usage:"):  # no command was given
            print(message())
            sys.exit(2)
        code = _fail(f"{message()} Try: runner --help")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> int:
    print(f"runner: {message}", file=sys.stderr)
    return 2
