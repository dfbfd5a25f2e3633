"""Every status has a sentence; success is zero and codes of lanes in work are negative."""

import re

import pytest

from jaxopt_lite.lanes.status import MESSAGES, Status, is_solved

FAILURES = [code for code in Status if code > 0 and not is_solved(code)]


def test_every_code_has_a_message_of_its_own():
    assert set(MESSAGES) == set(Status)
    assert len(set(MESSAGES.values())) == len(Status)


@pytest.mark.parametrize("code", list(Status), ids=lambda code: code.name)
def test_a_message_is_a_sentence(code):
    assert re.fullmatch(r"[a-z].*[.]", MESSAGES[code])


@pytest.mark.parametrize("code", FAILURES, ids=lambda code: code.name)
def test_a_failure_says_what_to_try(code):
    advice = r"raise `|loosen|[Ss]tart elsewhere|Add a|Try other|please report|Run the rest"
    assert re.search(advice, MESSAGES[code])


def test_codes():
    assert Status.CONVERGED == 0
    assert {code for code in Status if code < 0} == {Status.RUNNING, Status.WAITING, Status.EMPTY}
    assert len({int(code) for code in Status}) == len(Status)
