"""Events as lines of text, for progress on stderr."""

from __future__ import annotations

from meshwright.events import Changed, Checked, Event, Failed, Progress, Started, Tell


def event_line(event: Event, verbose: bool) -> str:
    """One event as a line; empty when it is only worth a line with --verbose."""
    line = ""
    match event:
        case Started(what, total):
            line = f"{what} ({total})" if total else what
        case Failed(id, verb, why, hint):
            line = f"! could not {verb} {id}: {why}" + (f" ({hint})" if hint else "")
        case Checked(name, False, expected, observed):
            line = f"! {name}: expected {expected}, saw {observed}"
        case Progress(what) if verbose:
            line = f"  {what}"
        case Changed(id, verb) if verbose:
            line = f"  {verb}d {id}"
        case Checked(name) if verbose:
            line = f"  ok {name}"
    return line


def once(tell: Tell) -> Tell:
    """A listener that is told only once why things fail, where many fail for the same reason."""
    told: set[tuple[str, str]] = set()

    def heard(event: Event) -> None:
        if isinstance(event, Failed):
            if (event.why, event.hint) in told:
                return
            told.add((event.why, event.hint))
        tell(event)

    return heard
