"""Patterns from outside: RE2's syntax, in bounded time."""

import pytest

from image_repo.errors import BadPattern
from image_repo.model.regex import searcher


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("^a.*b$", "axb", True),
        ("b", "abc", True),
        ("^b", "abc", False),
        (r"\d{3}", "IMG_123", True),
        ("(?i)É", "é", True),
        ("^.$", "é", True),
        ("é", "\ud83eé", True),
    ],
    ids=ascii,
)
def test_a_pattern_is_searched_for(pattern, text, expected):
    assert searcher("regex", pattern)(text) is expected


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("(?=a)", id="look-ahead"),
        pytest.param("(?<!a)b", id="look-behind"),
        pytest.param(r"(a)\1", id="a back-reference"),
        pytest.param("(", id="an open bracket"),
        pytest.param("a{1001}", id="too many repetitions"),
        pytest.param("(((a{100}){100}){100})", id="too large once it is compiled"),
        pytest.param("a" * 1001, id="too long"),
    ],
)
def test_what_re2_lacks_is_refused(pattern, capfd):
    with pytest.raises(BadPattern) as caught:
        searcher("regex", pattern)
    assert caught.value.members["parameter"] == "regex"
    assert capfd.readouterr().err == ""


def test_a_pattern_that_hangs_others_does_not_hang_us():
    assert searcher("regex", "(a+)+$")("a" * 5000 + "b") is False
