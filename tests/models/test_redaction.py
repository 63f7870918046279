"""No secret is left in what was redacted, whichever form it took and however the output was cut."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swamp.data.record import Blob, Output
from swamp.models.invocation import Outcome
from swamp.models.redaction import MASK, RedactedLines, Redactor, is_too_short

ODD = "p\"ä\\ss/w'o<r>d & $x `y` +z"


def shell(command: str, secret: str) -> str:
    return subprocess.run(["bash", "-c", command], env={"S": secret}, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("raw", ODD),
        ("JSON", json.dumps(ODD)[1:-1]),
        ("JSON in UTF-8", json.dumps(ODD, ensure_ascii=False)[1:-1]),
        ("PHP's JSON", json.dumps(ODD)[1:-1].replace("/", "\\/")),
        ("Go's JSON", 'p\\"ä\\\\ss/w\'o\\u003cr\\u003ed \\u0026 $x `y` +z'),
        ("JSON in JSON", json.dumps(json.dumps(ODD))[1:-1].removeprefix('\\"').removesuffix('\\"')),
        ("URL", quote(ODD, safe="")),
        ("path of a URL", quote(ODD)),
        ("form", urlencode({"a": ODD}).removeprefix("a=")),
        ("encodeURIComponent", quote(ODD, safe="!'()*")),
        ("URL in lower case", quote(ODD, safe="").replace("%C3%A4", "%c3%a4").replace("%5C", "%5c")),
        ("word of a shell", shlex.quote(ODD).strip("'")),
        ("printf %q", shell("printf %q \"$S\"", ODD.replace("ä", "a"))),
        ("base64", base64.b64encode(ODD.encode()).decode()),
    ],
)  # fmt: skip
def test_every_form_is_found(form: str, said: str) -> None:
    secret = ODD.replace("ä", "a") if form == "printf %q" else ODD
    if form == "URL in lower case":
        said = quote(ODD, safe="").lower() if quote(ODD, safe="").lower().isascii() else said
    redacted = Redactor([secret]).text(f"before {said} behind")
    assert redacted.startswith(f"before {MASK}"), redacted
    assert redacted.endswith(" behind")
    assert len(redacted) <= len(f"before {MASK} behind") + 3  # padding, and ends that neighbours have a part in


@pytest.mark.parametrize("user", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_the_header_of_basic_authentication_tells_nothing(user: str, encode) -> None:
    secret = "correct horse? battery~staple"
    header = encode(f"{user}:{secret}".encode()).decode()
    left = Redactor([secret]).text(header).split(MASK)
    assert len(left) == 2
    assert len("".join(left)) <= len(base64.b64encode(f"{user}:".encode())) + 4


def test_each_line_of_a_secret_is_one() -> None:
    key = "-----BEGIN KEY-----\nMIIabcdefgh\n  hgfedcbaIIM==  \n}\n-----END KEY-----\n"
    redactor = Redactor([key])
    assert redactor.text(key) == MASK
    assert redactor.text("line 2: MIIabcdefgh.") == f"line 2: {MASK}."
    assert redactor.text("[hgfedcbaIIM==]") == f"[{MASK}]"
    assert redactor.text("{ }") == "{ }"


def test_of_secrets_that_overlap_no_end_is_left() -> None:
    redactor = Redactor(["hunter2", "hunter2-admin", "2-adminXY"])
    assert redactor.text("hunter2-adminXY") == MASK
    assert redactor.text("hunter2hunter2") == MASK
    assert redactor.text("hunter2 hunter2-admin") == f"{MASK} {MASK}"


def test_what_is_too_short_is_left_and_said_so() -> None:
    assert Redactor(["abc", ""]).text("abc") == "abc"
    assert is_too_short("abc")
    assert is_too_short("a\nb")
    assert not is_too_short("abcd")


def test_an_outcome_is_redacted_everywhere() -> None:
    once = json.dumps({"password": ODD})
    attributes = {"stdout": once, "n": 12345678, "deep": [{ODD: [f"x{ODD}"]}], "exitCode": 0, "ok": True}
    outcome = Outcome(
        "failed",
        f"no such thing: {ODD}",
        (
            Output("result", "result", "resource", "application/json", json.dumps(attributes).encode()),
            Output("log", "log", "file", "text/plain", b"\xff" + ODD.encode() + b"\xfe"),
            Output("broken", "broken", "resource", "application/json", b"{" + ODD.encode()),
            Output("big", "big", "file", "text/plain", Blob("ab" * 32, 70_000)),
        ),
        "then",
        "now",
        1,
    )
    redacted = Redactor([ODD, "12345678"]).outcome(outcome)
    result, log, broken, big = redacted.outputs
    assert redacted.error == f"no such thing: {MASK}"
    assert json.loads(result.content) == {  # type: ignore[arg-type]
        "stdout": f'{{"password": "{MASK}"}}', "n": MASK, "deep": [{MASK: [f"x{MASK}"]}], "exitCode": 0, "ok": True
    }  # fmt: skip
    assert log.content == b"\xff***\xfe"
    assert broken.content == b"{***"
    assert big is outcome.outputs[3]


def test_what_holds_no_secret_stays_byte_for_byte() -> None:
    content = b'{ "a" : 1.0e3, "b": "\\u00e4\\ud800" }'
    output = Output("result", "result", "resource", "application/json", content)
    assert Redactor([ODD]).output(output) is output


# ---------------------------------------------------------------------- in pieces

SECRETS = st.lists(st.text("ab\n=", min_size=4, max_size=9), min_size=1, max_size=3)
PIECES = st.lists(st.text("ab\n=c", max_size=8), max_size=12)


def spoken(secrets: list[str], pieces: list[str]) -> list[str]:
    """Some pieces of nothing much, with the secrets among them."""
    return [piece for pair in zip(pieces, secrets * len(pieces), strict=False) for piece in pair]


@given(SECRETS, PIECES, st.lists(st.integers(1, 7)))
def test_however_output_is_cut_it_is_redacted_as_a_whole(secrets: list[str], pieces: list[str], cuts: list[int]):
    redactor = Redactor(secrets)
    text = "".join(spoken(secrets, pieces)).encode()
    stream = redactor.stream()
    said, at = b"", 0
    longest = max(map(len, redactor._patterns), default=0)
    for size in [*cuts, len(text)]:
        said += stream.feed(text[at : at + size])
        at += size
        assert len(stream._held) < max(1, longest)
    assert said + stream.rest() == redactor.data(text)


@given(SECRETS, PIECES, st.lists(st.integers(1, 7)))
def test_lines_stay_whole(secrets: list[str], pieces: list[str], cuts: list[int]):
    redactor = Redactor(secrets)
    text = "".join(spoken(secrets, pieces)).encode()
    lines = RedactedLines(redactor)
    said, at = [], 0
    for size in [*cuts, len(text)]:
        said.append(lines.feed(text[at : at + size]))
        at += size
    assert all(piece.endswith(b"\n") for piece in said if piece)
    assert b"".join(said) + lines.rest() == redactor.data(text)


@given(SECRETS, PIECES)
def test_nothing_of_a_secret_is_left(secrets: list[str], pieces: list[str]):
    redacted = Redactor(secrets).text("".join(spoken(secrets, pieces)))
    words = {word for secret in secrets for word in (secret, *map(str.strip, secret.splitlines())) if len(word) >= 4}
    assert not [word for word in words if word in redacted]
