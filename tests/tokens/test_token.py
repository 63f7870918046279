from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swamp.errors import Invalid
from swamp.tokens import token as t

NOW = datetime(2026, 6, 15, 10, 34, 58, 961000, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECRET = bytes(range(32))


def minted(now: datetime = NOW, duration: timedelta = HOUR) -> t.Token:
    return t.mint("build-node", "sandbox-vault", duration, now, SECRET)[0]


def test_a_minted_token_knows_where_its_text_is_kept_and_when_it_ends():
    token, text = t.mint("build-node", "sandbox-vault", HOUR, NOW, SECRET)
    assert text == "build-node." + SECRET.hex()
    assert (token.vault, token.vault_key) == ("sandbox-vault", "worker-token-build-node")
    assert token.created_at == NOW
    assert token.expires_at == NOW + HOUR
    assert token.max_enrollments == 1


def test_the_text_of_a_token_holds_its_name_and_its_secret():
    _, text = t.mint("build-node", "v", HOUR, NOW, SECRET)
    assert t.parse(text) == ("build-node", SECRET)
    assert t.parse(f" {text}\n") == ("build-node", SECRET)


def test_what_is_known_of_a_token_never_shows_the_secret():
    token, text = t.mint("build-node", "v", HOUR, NOW, SECRET)
    secret = text.split(".")[1]
    assert secret not in repr(token)
    assert secret not in str(t.document(token, [], NOW))


@pytest.mark.parametrize("name", ["", "a--b", "Build", "a.b", "a/b", "x" * 64])
def test_a_token_cannot_have_a_name_that_no_target_can_have(name):
    with pytest.raises(Invalid):
        t.mint(name, "v", HOUR, NOW, SECRET)


@given(st.text(max_size=80))
def test_text_that_is_no_token_is_refused_without_being_repeated(text):
    with pytest.raises(Invalid) as refused:
        t.parse(text)
    assert refused.value.message == "this is not an enrollment token"


@pytest.mark.parametrize(
    "text",
    [
        "build-node." + "A" * 64,
        "build-node." + "a" * 63,
        "build-node." + "a" * 65,
        "build--node." + "a" * 64,
        "." + "a" * 64,
        "a" * 64,
        "x" * 64 + "." + "a" * 64,
        "build-node " + "a" * 64,
        "build-node." + "a" * 63 + "٣",
    ],
)
def test_nearly_right_texts_are_refused_too(text):
    with pytest.raises(Invalid):
        t.parse(text)


def test_a_fresh_token_is_unused_and_then_bound():
    assert t.state(minted(), bound=False, now=NOW) == "unused"
    assert t.state(minted(), bound=True, now=NOW) == "bound"


def test_a_token_is_over_at_the_very_moment_of_expiry():
    token = minted()
    just_before = token.expires_at - timedelta(milliseconds=1)
    assert t.is_live(token, just_before)
    assert not t.is_live(token, token.expires_at)
    assert t.state(token, bound=True, now=token.expires_at) == "expired"


def test_a_revoked_token_stays_revoked_after_its_time():
    token = t.Token("a", "v", "k", NOW, NOW + HOUR, revoked_at=NOW)
    assert not t.is_live(token, NOW)
    assert t.state(token, bound=True, now=NOW) == "revoked"
    assert t.state(token, bound=True, now=NOW + 2 * HOUR) == "revoked"


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("20", 20), ("unlimited", None)])
def test_the_number_of_machines_is_a_whole_number_or_unlimited(text, number):
    assert t.parse_max_enrollments(text) == number


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "many", "1000000", "٣"])
def test_other_numbers_of_machines_are_refused(text):
    with pytest.raises(Invalid, match="is not a number of machines"):
        t.parse_max_enrollments(text)


def test_the_nearest_token_is_named_when_one_is_not_known():
    assert t.unknown("bulid-node", ["fleet", "build-node"]).message.endswith("did you mean 'build-node'?")
    assert t.unknown("x", []).message == "there is no token 'x'"
