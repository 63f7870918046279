"""Which expressions there are, and what is said of those that there are not."""

from __future__ import annotations

import pytest

from swamp.expressions.template import VaultGet, fill, parse, references

KEY = VaultGet("main", "api/KEY.2")


@pytest.mark.parametrize(
    "text",
    [
        "${{ vault.get('main', 'api/KEY.2') }}",
        "${{vault.get('main','api/KEY.2')}}",
        '${{ vault.get( "main" , "api/KEY.2" ) }}',
        "${{\n  vault.get('main', \"api/KEY.2\")\n}}",
    ],
)
def test_a_secret_is_named_by_vault_and_key(text: str) -> None:
    assert parse(text) == (KEY,)
    assert parse(f"a{text}{text}b") == ("a", KEY, KEY, "b")


def test_its_text_form_reads_back() -> None:
    assert parse(str(KEY)) == (KEY,)


def test_braces_and_dollars_of_others_are_text() -> None:
    for text in ("", "a", "{{ x }}", "$ {{ x }}", "${x}", "}}", "$${"):
        assert "".join(map(str, parse(text))) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a ${{ env.HOME }} b", "holds ${{ env.HOME }}, which cannot be evaluated"),
        ("${{ vault.get(main, KEY) }}", "holds ${{ vault.get(main, KEY) }}, which cannot be evaluated"),
        ("${{ vault.get('main') }}", "which cannot be evaluated"),
        ("${{ vault.get('main', 'a\\'b') }}", "which cannot be evaluated"),
        ("${{ vault.get('main', 'KEY') + 'x' }}", "which cannot be evaluated"),
        ("${{ vault.get('main', 'KEY')", "holds ${{ without }}"),
        ("${{ vault.get('main', 'KEY') }} ${{", "holds ${{ without }}"),
        ("${{ " + "x" * 500 + " }}", "holds ${{ xxx"),
    ],
)
def test_everything_else_is_one_clear_error(text: str, why: str) -> None:
    with pytest.raises(ValueError, match="holds") as refused:
        parse(text)
    assert why in str(refused.value)
    assert "${{ vault.get('<vault>', '<key>') }}" in str(refused.value)
    assert len(str(refused.value)) < 250


def test_what_is_filled_in_is_not_looked_at_again() -> None:
    assert fill(f"a {KEY} b", lambda _: "${{ vault.get('x', 'y') }}") == "a ${{ vault.get('x', 'y') }} b"


def test_references_are_found_in_every_value() -> None:
    value = {"run": f"x {KEY}", "env": {"A": f"{KEY}", "B": "b"}, "list": [[f"{KEY}"]], "n": 1, "no": None}
    assert list(references(value)) == [KEY] * 3
