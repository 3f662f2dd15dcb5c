"""What is drawn on a terminal: progress and the probe matrix. The only import of rich; never used on a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from meshwright.cli.lines import event_line
from meshwright.events import Changed, Checked, Event, Failed, Started, Tell
from meshwright.events import Progress as Step


@contextmanager
def drawn() -> Iterator[tuple[Tell, Callable[[], AbstractContextManager[None]]]]:
    """A line with a spinner, and a bar where the number of things is known; failures stay on the screen.

    The second is a block for which nothing is drawn: somebody else has the terminal.
    """
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def tell(event: Event) -> None:
            match event:
                case Started(what, total):
                    progress.reset(task, description=what, total=total or None)
                case Step(what, done):
                    progress.update(task, completed=done)
                case Changed() | Checked(ok=True):
                    progress.advance(task)
                case Failed() | Checked():
                    progress.advance(task)
                    progress.console.print(event_line(event, False), markup=False, highlight=False, style="red")

        @contextmanager
        def hidden() -> Iterator[None]:
            progress.stop()
            try:
                yield
            finally:
                progress.start()

        yield tell, hidden
