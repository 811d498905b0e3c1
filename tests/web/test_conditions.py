"""Conditional requests as RFC 9110 says, sections 13.1, 13.2.2 and 14.2."""

from __future__ import annotations

import pytest
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from image_repo.errors import PreconditionFailed
from image_repo.web.conditions import ConditionalRequest

#: seconds since the epoch, and the HTTP date of that second, of the one before and of the one behind
MODIFIED = 784111777.0
SAME, EARLIER, LATER = (f"Sun, 06 Nov 1994 08:49:{second} GMT" for second in (37, 36, 38))


def request(method: str = "GET", **headers: str) -> ConditionalRequest:
    return ConditionalRequest({"REQUEST_METHOD": method, **{f"HTTP_{name}": text for name, text in headers.items()}})


@pytest.mark.parametrize(
    ("headers", "outcome"),
    [
        pytest.param({}, 200, id="no condition"),
        pytest.param({"IF_MATCH": '"e"'}, 200, id="13.1.1 the tag matches"),
        pytest.param({"IF_MATCH": "*"}, 200, id="13.1.1 any matches"),
        pytest.param({"IF_MATCH": 'W/"e"'}, 412, id="13.1.1 a weak tag does not match strongly"),
        pytest.param({"IF_MATCH": '"x", "y"'}, 412, id="13.1.1 none of the tags matches"),
        pytest.param({"IF_MATCH": '"x", "e"'}, 200, id="13.1.1 one of the tags matches"),
        pytest.param({"IF_MATCH": '"e"', "IF_UNMODIFIED_SINCE": EARLIER}, 200, id="13.2.2 If-Match precedes the date"),
        pytest.param({"IF_UNMODIFIED_SINCE": SAME}, 200, id="13.1.4 not modified since"),
        pytest.param({"IF_UNMODIFIED_SINCE": EARLIER}, 412, id="13.1.4 modified since"),
        pytest.param({"IF_UNMODIFIED_SINCE": "rubbish"}, 200, id="13.1.4 no date is ignored"),
        pytest.param({"IF_NONE_MATCH": '"e"'}, 304, id="13.1.2 the tag matches"),
        pytest.param({"IF_NONE_MATCH": 'W/"e"'}, 304, id="13.1.2 a weak tag matches weakly"),
        pytest.param({"IF_NONE_MATCH": '"x", "e"'}, 304, id="13.1.2 one of the tags matches"),
        pytest.param({"IF_NONE_MATCH": "*"}, 304, id="13.1.2 any matches"),
        pytest.param({"IF_NONE_MATCH": '"x"'}, 200, id="13.1.2 no tag matches"),
        pytest.param({"IF_NONE_MATCH": '"x"', "IF_MODIFIED_SINCE": SAME}, 200, id="13.1.3 the tag precedes the date"),
        pytest.param({"IF_NONE_MATCH": "", "IF_MODIFIED_SINCE": SAME}, 200, id="13.1.3 an empty list precedes it too"),
        pytest.param({"IF_MODIFIED_SINCE": SAME}, 304, id="13.1.3 not modified since"),
        pytest.param({"IF_MODIFIED_SINCE": LATER}, 304, id="13.1.3 not modified since later"),
        pytest.param({"IF_MODIFIED_SINCE": EARLIER}, 200, id="13.1.3 modified since"),
        pytest.param({"IF_MODIFIED_SINCE": "rubbish"}, 200, id="13.1.3 no date is ignored"),
        pytest.param({"IF_MATCH": '"e"', "IF_NONE_MATCH": '"e"'}, 304, id="13.2.2 If-None-Match follows If-Match"),
        pytest.param({"IF_MATCH": '"x"', "IF_NONE_MATCH": '"e"'}, 412, id="13.2.2 If-Match comes first"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_preconditions_are_evaluated_in_their_order(method: str, headers: dict[str, str], outcome: int) -> None:
    conditions = request(method, **headers)
    if outcome == 412:
        with pytest.raises(PreconditionFailed):
            conditions.are_met("e", MODIFIED + 0.5)
    else:
        assert conditions.are_met("e", MODIFIED + 0.5) is (outcome == 200)


def test_dates_say_nothing_of_a_representation_without_one() -> None:
    assert request(IF_MODIFIED_SINCE=LATER).are_met("e", None)
    assert request(IF_UNMODIFIED_SINCE=EARLIER).are_met("e", None)


@pytest.mark.parametrize(
    ("headers", "part"),
    [
        pytest.param({}, None, id="none is asked for"),
        pytest.param({"RANGE": "bytes=0-9"}, (0, 10), id="14.1.2 the first bytes"),
        pytest.param({"RANGE": "bytes=-5"}, (95, 100), id="14.1.2 the last bytes"),
        pytest.param({"RANGE": "bytes=90-200"}, (90, 100), id="14.1.2 beyond the end"),
        pytest.param({"RANGE": "bytes=0-1,4-5"}, None, id="14.2 several are answered whole"),
        pytest.param({"RANGE": "lines=0-1"}, None, id="14.2 an unknown unit is ignored"),
        pytest.param({"RANGE": "bytes=0-9", "IF_RANGE": '"e"'}, (0, 10), id="13.1.5 the tag matches"),
        pytest.param({"RANGE": "bytes=0-9", "IF_RANGE": '"x"'}, None, id="13.1.5 another tag"),
        pytest.param({"RANGE": "bytes=0-9", "IF_RANGE": 'W/"e"'}, None, id="13.1.5 a weak tag never matches"),
        pytest.param({"RANGE": "bytes=0-9", "IF_RANGE": SAME}, (0, 10), id="13.1.5 the same date"),
        pytest.param({"RANGE": "bytes=0-9", "IF_RANGE": LATER}, None, id="13.1.5 a later date is another"),
        pytest.param({"RANGE": "bytes=999-", "IF_RANGE": '"x"'}, None, id="13.1.5 what fails it is not judged"),
    ],
)
def test_the_range_of_a_get(headers: dict[str, str], part: tuple[int, int] | None) -> None:
    assert request(**headers).byte_range("e", MODIFIED, 100) == part


@pytest.mark.parametrize("text", ["bytes=100-", "bytes=5-1", "bytes=x"])
def test_a_range_outside_or_unreadable_is_refused(text: str) -> None:
    with pytest.raises(RequestedRangeNotSatisfiable) as refused:
        request(RANGE=text).byte_range("e", MODIFIED, 100)
    assert ("Content-Range", "bytes */100") in refused.value.get_headers({})


def test_a_range_has_a_meaning_for_get_alone() -> None:
    """RFC 9110, section 14.2."""
    assert request("HEAD", RANGE="bytes=0-9").byte_range("e", MODIFIED, 100) is None


def test_an_empty_representation_is_sent_whole() -> None:
    assert request(RANGE="bytes=0-9").byte_range("e", MODIFIED, 0) is None
