"""The prompt: line editing, history and completion around a session; the one user of prompt_toolkit."""

import os
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output

from featgraph import output
from featgraph.core.files import os_reason
from featgraph.errors import FeatgraphError
from featgraph.shell.commands import run_all
from featgraph.shell.completion import complete
from featgraph.shell.reading import is_complete
from featgraph.shell.session import Session


def at_terminal(session: Session) -> None:
    """Prompt at the terminal, even where stdout is redirected."""
    with create_app_session(output=create_output(always_prefer_tty=True)):
        ask(session)


def ask(session: Session) -> None:
    """Prompt and run until the user leaves; Ctrl-C ends a line or a statement, nothing else."""
    prompt: PromptSession[str] = PromptSession(
        multiline=True,
        history=History(history_file()),
        completer=_Completer(session),
        complete_while_typing=False,
        key_bindings=_keys(),
        prompt_continuation=lambda width, number, wraps: "" if wraps else "... ".rjust(width),
    )
    output.note(f"{session.store.path}; statements end with ; and .help lists the commands")
    while not session.is_over:
        is_running = False
        try:
            text = prompt.prompt(f"{session.store.path.stem}> ")
            is_running = True
            run_all(session, StringIO(text))
        except EOFError:
            return
        except KeyboardInterrupt:
            if is_running:
                output.note("interrupted")


def history_file() -> Path:
    """Return where statements are remembered: in the user's state directory, by the XDG convention."""
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    state = given if given.is_absolute() else Path("~/.local/state").expanduser()
    return state / "featgraph" / "history"


class History(FileHistory):
    """Statements in a file that only the user may read; where that cannot be, those of this session only."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self._is_kept = True
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(file, os.O_APPEND | os.O_CREAT | os.O_RDWR, 0o600))
        except (OSError, RuntimeError) as error:
            self._give_up(error)

    def load_history_strings(self) -> Iterable[str]:
        """Return what was remembered, the newest first."""
        return super().load_history_strings() if self._is_kept else []

    def store_string(self, string: str) -> None:
        """Remember one more; prompt_toolkit itself remembers it until the session ends."""
        if self._is_kept:
            try:
                super().store_string(string)
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._is_kept = False
        output.note(f"statements are not remembered: cannot write {self.filename!s}: {os_reason(error)}")


class _Completer(Completer):
    """Hands what `completion` knows to prompt_toolkit."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        try:
            typed, fitting = complete(self._session, document.text_before_cursor, document.text_after_cursor)
        except FeatgraphError:  # the next statement reports that the graph is damaged
            return
        for item in fitting:
            yield Completion(item.text, -len(typed), display_meta=item.about)


def _keys() -> KeyBindings:
    """Enter runs a complete statement, else starts a new line; Alt-Enter, which is built in, always runs."""
    bindings = KeyBindings()

    @bindings.add("enter", filter=has_focus(DEFAULT_BUFFER))
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state is not None and buffer.complete_state.current_completion is not None:
            buffer.complete_state = None
        elif is_complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    return bindings
