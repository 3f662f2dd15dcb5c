"""What ssh and sudo say, as recorded, becomes one sentence with a next step: a directory of words and sentences.

words/NAME.err    what the program wrote to stderr, after a first line `# ssh` or `# sudo`
words/NAME.txt    the sentence, then the next step
"""

from __future__ import annotations

from pathlib import Path

import pytest

from meshwright.io import sshwords
from meshwright.io.sshwords import Failure

HERE = Path(__file__).parent / "words"
CASES = sorted(path.stem for path in HERE.glob("*.err"))


def sentence(case: str) -> str:
    program, _, said = (HERE / f"{case}.err").read_text().partition("\n")
    failure: Failure | None
    failure = sshwords.ssh("hub-1", said) if program == "# ssh" else sshwords.sudo("anna", said)
    assert failure, case
    return f"{failure.kind}: {failure.why}\n{failure.hint}\n"


@pytest.mark.parametrize("case", CASES)
def test_words_become_a_sentence(case: str, update: bool) -> None:
    expected = HERE / f"{case}.txt"
    if update:
        expected.write_text(sentence(case))
    assert sentence(case) == expected.read_text()


def test_every_sentence_has_words_that_lead_to_it() -> None:
    told = {line for case in CASES for line in sentence(case).splitlines()[1:]}
    for case in (*sshwords._SSH, *sshwords._SUDO):
        hint = case.hint.replace("{name}", "hub-1").replace("{user}", "anna").split("{")[0]
        assert any(line.startswith(hint) for line in told), case.words.pattern


def test_unknown_words_are_passed_on_and_may_mean_that_something_was_done() -> None:
    failure = sshwords.ssh("hub-1", "banner\nsomething new went wrong\n")
    assert (failure.kind, failure.why) == ("unknown", "ssh: something new went wrong")
    assert sshwords.ssh("hub-1", "").kind == "lost"
    assert sshwords.sudo("anna", "nft: syntax error, unexpected string") is None


@pytest.mark.parametrize("case", CASES)
def test_only_what_somebody_could_answer_is_asked_on_a_terminal(case: str) -> None:
    program, _, said = (HERE / f"{case}.err").read_text().partition("\n")
    asked = {"key-unknown", "key-strict", "permission-denied", "permission-denied-jump"}
    assert sshwords.answerable(said) == (program == "# ssh" and case in asked)
