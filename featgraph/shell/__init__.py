"""The interactive shell: runs statements at a prompt in a terminal, else line by line from stdin.

session      the open graph and its settings; runs a statement
commands     the dot commands
prompt       the prompt: line editing, history, completion
reading      lines -> statements and dot commands
schema       the answer of `.schema`
completion   completes dot commands and statements
suggestions  the words that can come next in a statement
context      the clause and the names at the cursor
vocabulary   the words of the language and of the open graph
"""

import sys
from io import TextIOWrapper

from featgraph.errors import UsageError
from featgraph.shell.commands import run_all
from featgraph.shell.session import Session

__all__ = ["Session", "run"]


def run(session: Session) -> bool:
    """Run what the user types or pipes in, to its end; return whether all of it went well.

    At a prompt errors are part of the work, so that the session always ends well.

    Raises UsageError: stdin is closed.
    """
    if sys.stdin is None:
        raise UsageError("stdin is closed, so there is nothing to run")
    talks_to = [stream for stream in (sys.stdout, sys.stderr) if stream is not None]
    if sys.stdin.isatty() and any(stream.isatty() for stream in talks_to):
        from featgraph.shell.prompt import at_terminal

        at_terminal(session)
        return True
    if isinstance(
        sys.stdin, TextIOWrapper
    ):  # an error names the statement that holds bytes that are not text
        sys.stdin.reconfigure(errors="surrogateescape")
    return run_all(session, sys.stdin, "stdin")[1] == 0
