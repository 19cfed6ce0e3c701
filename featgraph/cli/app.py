"""The Typer application, and the one place where an error becomes a line on stderr and an exit code."""

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

import featgraph
from featgraph.cli.cold_start import QuickCommand, QuickGroup
from featgraph.core.files import os_reason
from featgraph.errors import FeatgraphError
from featgraph.output import note, write_text

INTERRUPTED = 130

Command = TypeVar("Command", bound=Callable[..., None])


PANELS = {
    "Build": ("recipes", "recipe", "ingest"),
    "Look": ("info", "lineage", "feature", "find", "search", "similar", "activate", "explore"),
    "Ask": (
        *("query", "queries", "run", "shell"),
        *("ancestors", "descendants", "neighbors", "subgraph", "paths"),
        *("splits", "merges", "births", "deaths", "chains", "components", "flow"),
        *("compare", "mcp"),
    ),
    "Steer": ("steer", "evaluate"),
    "Export": ("export",),
    "Maintain": ("label", "ablate", "attribute", "verify"),
}
"""The commands as `featgraph --help` lists them, in the order of work; one that is not here comes last."""


class _Commands(QuickGroup):
    """A group of commands, listed in panels, whose errors are one line each."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a panel per stage of the work, all of one width."""
        named = {name: found for name in self.list_commands(ctx) if (found := self.get_command(ctx, name))}
        rest = set(named).difference(*PANELS.values())
        width = max(map(len, named)) + 2
        room = formatter.width - width - 2
        for panel, names in {**PANELS, "More": sorted(rest)}.items():
            rows = [
                (f"{name:{width - 2}}", named[name].get_short_help_str(room))
                for name in names
                if name in named
            ]
            if rows:
                with formatter.section(panel):
                    formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; turn what a user can cause into an exit code."""
        try:
            return super().invoke(ctx)
        except FeatgraphError as error:
            _say(str(error), error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            _say("interrupted", error)
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:  # the reader of our output, such as `head`, has seen enough
            _drop_stdout()
            raise typer.Exit(0) from error
        except MemoryError as error:
            _say("there is not enough memory for this", error)
            raise typer.Exit(FeatgraphError.exit_code) from error
        except OSError as error:
            _drop_stdout()
            note(f"cannot write the answer: {os_reason(error)}")
            raise typer.Exit(FeatgraphError.exit_code) from error


def _say(message: str, error: BaseException) -> None:
    """Print what went wrong, and below it the notes that were added to the error."""
    for line in [message, *getattr(error, "__notes__", [])]:
        note(line)


def _drop_stdout() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not fail on it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    cls=_Commands,
    name="featgraph",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def command(
    example: str, *, name: str | None = None, help: str | None = None
) -> Callable[[Command], Command]:
    """Add a function to the application; its help ends with a line that can be typed as it is.

    name, help: left out, the function's name and docstring.
    """
    return app.command(name, cls=QuickCommand, help=help, epilog=f"\b\nExample:\n  featgraph {example}")


def _version(asked: bool) -> None:
    if asked:
        write_text(f"featgraph {featgraph.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Trace the features of a language model through its layers.

    A feature graph holds every feature of a suite of sparse autoencoders and its candidate edges to other
    layers. `featgraph ingest demo` builds one without a download; the other commands read it.
    """
