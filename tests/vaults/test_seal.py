from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swamp.vaults.seal import Refused, key_of, seal, unseal

KEY, NONCE = bytes(range(32)), bytes(range(12))


@given(st.text())
def test_what_was_sealed_comes_back(value):
    sealed = seal(KEY, "api-key", value, NONCE)
    assert unseal(KEY, "api-key", sealed) == value
    assert key_of(sealed) == "api-key"


def test_the_written_form_does_not_change():
    # A secret stored by this version must open for ever.
    assert seal(KEY, "api-key", "the value", NONCE) == (
        b'{"version": 1, "key": "api-key", "nonce": "AAECAwQFBgcICQoL", '
        b'"ciphertext": "M2qzO7OErm7ole2w3NgNlTtezSfowWdcSg=="}\n'
    )


def test_the_value_is_not_in_the_file():
    assert b"the value" not in seal(KEY, "api-key", "the value", NONCE)


def test_another_encryption_key_does_not_open_it():
    with pytest.raises(Refused):
        unseal(bytes(32), "api-key", seal(KEY, "api-key", "v", NONCE))


def test_the_file_of_another_secret_does_not_open():
    with pytest.raises(Refused):
        unseal(KEY, "api-key", seal(KEY, "other", "v", NONCE))


@given(st.data())
def test_a_changed_bit_of_nonce_or_ciphertext_is_refused(data):
    document = json.loads(seal(KEY, "api-key", "the value", NONCE))
    field = data.draw(st.sampled_from(["nonce", "ciphertext"]))
    text = document[field]
    # The last characters of base64 hold bits that mean nothing, so only the others are changed.
    at = data.draw(st.integers(0, len(text) - 4))
    document[field] = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
    with pytest.raises(Refused):
        unseal(KEY, "api-key", json.dumps(document).encode())


@given(
    st.one_of(
        st.binary(),
        st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner)).map(
            lambda value: json.dumps(value).encode()
        ),
        st.fixed_dictionaries(
            {"version": st.sampled_from([1, 2]), "key": st.text(), "nonce": st.text(), "ciphertext": st.text()}
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_anything_else_is_refused_and_raises_nothing_else(content):
    with pytest.raises(Refused):
        unseal(KEY, "api-key", content)
