"""In which order a batch of changes is written, and many at a time. Knows no object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from graphlib import TopologicalSorter

from meshwright.events import Progress, Tell
from meshwright.plan.plan import Change, id_kind
from meshwright.providers.base import Result

AT_ONCE = 16
TELL_EVERY = 25
_RIGHTS = frozenset({"rolebinding", "clusterrolebinding", "serviceaccount"})
Write = Callable[[Change], Result]


def run(
    changes: Sequence[Change], write: Write, stop: Callable[[], None], tell: Tell, last: str = ""
) -> dict[str, Result]:
    """Write every change after those that it waits for; what waits in vain is not tried.

    Rights that are taken away go first, everything else that is taken away last, and `last` after all. stop: called
    when this is interrupted; no thread writes any more when it ends.
    """

    def phase(id: str) -> int:
        change = pending[id]
        if change.wanted is not None:
            return 1
        return 0 if id_kind(id) in _RIGHTS else 2 + (id == last)

    pending = {change.id: change for change in changes}
    sorter = TopologicalSorter({c.id: [id for id in c.after if id in pending] for c in changes})
    sorter.prepare()
    results: dict[str, Result] = {}
    ready: set[str] = set()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while sorter.is_active():
            ready |= set(sorter.get_ready())
            first = min(map(phase, ready))
            wave = sorted(id for id in ready if phase(id) == first)
            _wave([pending[id] for id in wave], results, pool, write, (stop, tell))
            ready -= set(wave)
            sorter.done(*wave)
    return results


def _wave(
    wave: Sequence[Change],
    results: dict[str, Result],
    pool: ThreadPoolExecutor,
    write: Write,
    ears: tuple[Callable[[], None], Tell],
) -> None:
    stop, tell = ears
    futures: list[Future[Result]] = []
    try:
        for change in wave:
            if failed := _failed(change, results):
                why = f"not tried: it needs {', '.join(failed)} first"
                results[change.id] = Result(change.id, False, why=why, hint="mend that, then apply again")
            else:
                futures.append(pool.submit(write, change))
        for future in as_completed(futures):
            result = future.result()
            results[result.id] = result
            if len(results) % TELL_EVERY == 0:
                tell(Progress(result.id, len(results)))
    except BaseException:
        stop()
        pool.shutdown(wait=True, cancel_futures=True)
        raise


def _failed(change: Change, results: Mapping[str, Result]) -> list[str]:
    return [id for id in change.after if id in results and not results[id].ok]
