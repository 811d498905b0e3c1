"""Access control: one decision, and the problem that each refusal is answered with."""

from __future__ import annotations

import pytest

from image_repo.access.control import AccessControl, Action, Denial, Grant, Rules
from image_repo.access.principal import ADMIN, ANONYMOUS, Principal
from image_repo.errors import ArtifactNotFound, Forbidden, ImageNotFound, Unauthenticated


class Fixed:
    """Rules with one decision for everything; they note what they are asked."""

    def __init__(self, decision: Grant | Denial) -> None:
        self.decision = decision
        self.calls: list[tuple[Principal, Action, str]] = []

    def decide(self, principal: Principal, action: Action, target: str) -> Grant | Denial:
        self.calls.append((principal, action, target))
        return self.decision


def test_without_rules_everything_is_allowed_and_may_be_kept_by_shared_caches():
    access = AccessControl()
    for principal in (ANONYMOUS, ADMIN, Principal("ann", frozenset({"reader"}))):
        for action in Action:
            assert access.authorise(principal, action, "a/b").is_shared
            assert access.allows(principal, action, "")


@pytest.mark.parametrize(
    ("denial", "problem", "status"),
    [
        (Denial.UNAUTHENTICATED, Unauthenticated, 401),
        (Denial.FORBIDDEN, Forbidden, 403),
        (Denial.HIDDEN, ImageNotFound, 404),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_each_denial_raises_the_problem_of_its_status(denial, problem, status):
    access = AccessControl(Fixed(denial))
    with pytest.raises(problem) as raised:
        access.authorise(ANONYMOUS, Action.READ, "a/b")
    assert raised.value.status == denial.value == status
    assert not access.allows(ANONYMOUS, Action.READ, "a/b")


def test_only_missing_credentials_are_answered_with_a_challenge():
    assert (Unauthenticated.challenge, Forbidden.challenge) == ("Bearer", None)


def test_a_hidden_target_raises_what_a_missing_one_does():
    access = AccessControl(Fixed(Denial.HIDDEN))
    with pytest.raises(ArtifactNotFound, match="no such thing"):
        access.authorise(ANONYMOUS, Action.READ, "x", lambda _: ArtifactNotFound("no such thing"))


def test_rules_get_the_principal_the_action_and_the_target_and_their_grant_is_returned():
    rules: Rules = Fixed(Grant(is_shared=False))
    ann = Principal("ann")
    assert AccessControl(rules).authorise(ann, Action.LINK, "a/b") is rules.decision
    assert rules.calls == [(ann, Action.LINK, "a/b")]


def test_a_principal_is_anonymous_without_a_name():
    assert ANONYMOUS.is_anonymous
    assert not ADMIN.is_anonymous
