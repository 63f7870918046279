"""`docs/protocol.md` says what the code does: whoever writes a worker from it alone writes one that works."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest

from swamp.broker import acl, functions, keyspace
from swamp.data import blobs, schema, store
from swamp.data.record import Blob, Output
from swamp.models.invocation import Invocation, Outcome
from swamp.orchestrator import app, core, intake, leases, ledger, packing
from swamp.orchestrator.tunnel import MOST
from swamp.wire import codec, messages, noise, signing, tunnel
from swamp.wire.messages import (
    Acknowledge,
    BlobPart,
    BlobStored,
    Cancel,
    Declined,
    Dispatch,
    Dropped,
    Farewell,
    Finished,
    Grant,
    Heartbeat,
    Hello,
    Inventory,
    Opened,
    Opening,
    OutputLines,
    Refusal,
    Rejoin,
    Started,
    Tunnel,
    Wants,
    Welcome,
)
from swamp.workflows import workflow
from workers import claims, opener, session, slots, voice

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
LUA = (ROOT / "swamp" / "broker" / "functions.lua").read_text(encoding="utf-8")

MACHINE, TARGET, DISPATCH, EPOCH = "eedd883da0a9451593dc", "build-node", "build-node--7f3e-0-1", 1781523298961
CHECKSUM = "ab" * 32
CLOCK = "2026-06-15T11:34:58.961Z"
BEGUN, ENDED = "2026-06-15T11:35:02.104Z", "2026-06-15T11:35:02.106Z"
CALL = Invocation("m1", "greeter", "command/shell", "execute", {"run": "echo hi"})
OUTPUTS = (
    Output("result", "result", "resource", "application/json", b'{"exitCode":0}'),
    Output("log", "log", "file", "text/plain", Blob(CHECKSUM, 70_000)),
)

UP: list[messages.UpBody] = [
    Wants(DISPATCH),
    Started(DISPATCH, BEGUN),
    Dropped(DISPATCH),
    Declined(DISPATCH, "seen"),
    OutputLines(DISPATCH, "stdout", "hi"),
    Finished(DISPATCH),
    Inventory(False, (), (), (DISPATCH,)),
    Heartbeat("5f0c", 0, 1, (DISPATCH,), 7),
]
DOWN: list[messages.DownBody] = [
    Acknowledge(EPOCH, 1),
    Grant(DISPATCH, EPOCH),
    Cancel(DISPATCH, "the run was canceled", 10.0),
]
SESSION: list[messages.SessionMessage] = [
    Hello(1, "0.1.0", EPOCH, 0, "linux/x86_64", 1, CLOCK, "box", 4242, "3.11.9", 30.0),
    Welcome(
        TARGET,
        TARGET,
        "5f0c",
        CLOCK,
        3,
        0,
        7,
        "redis://127.0.0.1:6379/0",
        "u",
        "p",
        bytes(32),
        {1: bytes(32)},
        4.0,
        False,
        "0f" * 16,
    ),
    Tunnel("0f" * 16),
    Opened(),
    Refusal("revoked", "no"),
    Rejoin(),
    Farewell(),
    BlobPart(CHECKSUM, b"xyz", True),
    BlobStored(CHECKSUM, None),
]


def examples() -> dict[str, bytes]:
    """Every message, packed, by the name that the document gives it."""
    packed = {
        "opening": messages.pack_opening(Opening(1, TARGET, bytes(48))),
        "reply": messages.pack_reply(bytes(96)),
        "clear refusal": messages.pack_clear_refusal(Refusal("unknown_token", "no")),
        "dispatch": messages.pack_dispatch(
            Dispatch(DISPATCH, TARGET, 1, 3, "2026-06-16T11:34:58.961Z", "7f3e", "hello", "main", "greet", False, CALL),
        ),
        "result": messages.pack_result(Outcome("succeeded", None, OUTPUTS, BEGUN, ENDED, 2)),
    }
    several = [messages.pack_session(message) for message in SESSION]
    several += [messages.pack_up(EPOCH, number, body) for number, body in enumerate(UP, 1)]
    several += [messages.pack_down("5f0c", number, body) for number, body in enumerate(DOWN, 1)]
    for data in several:
        packed[str(opened(data)["kind"])] = data
    return packed


def opened(data: bytes) -> dict[str, object]:
    message = codec.unpack(data)
    assert isinstance(message, dict)
    return message


def section(title: str) -> str:
    """The text under this heading (its number aside), up to the next heading of any depth."""
    found = re.search(rf"^#+ (?:\d+\. )?{re.escape(title)}\n(.*?)(?=^#+ |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"the document has no section '{title}'"
    return found[1]


def json_blocks(title: str) -> list[dict[str, object]]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section(title), re.DOTALL)]


def first_column(table: str) -> list[str]:
    """What stands in backquotes in the first column of every row below the head."""
    rows = re.findall(r"^\| ([^|]*`[^|]*) \|(?!.*\n\|---)", table, re.MULTILINE)
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


def paragraph(name: str) -> str:
    """The text on one message of the session, up to that on the next."""
    found = re.search(rf"^\*\*`?{name}`?\*\*(.*?)(?=^\*\*|^#|\Z)", TEXT, re.MULTILINE | re.DOTALL | re.IGNORECASE)
    assert found, f"the document has no paragraph on '{name}'"
    return found[1]


def tables(text: str) -> list[str]:
    return re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)


def row_of(title: str, name: str) -> str:
    found = re.search(rf"^\| `{name}` \|(.*)\|$", section(title), re.MULTILINE)
    assert found, f"the section '{title}' has no row for '{name}'"
    return found[1]


def test_the_examples_of_this_test_are_all_the_messages_there_are():
    assert {type(body) for body in UP} == set(get_args(messages.UpBody))
    assert {type(body) for body in DOWN} == set(get_args(messages.DownBody))
    assert {type(body) for body in SESSION} == set(get_args(messages.SessionMessage))


@pytest.mark.parametrize("message", [*UP, *DOWN], ids=lambda message: type(message).__name__)
def test_every_message_in_redis_has_a_row_with_exactly_its_fields(message: messages.UpBody | messages.DownBody):
    if isinstance(message, Acknowledge | Cancel | Grant):
        title, data = "Messages down", messages.pack_down("5f0c", 1, message)
    else:
        title, data = "Messages up", messages.pack_up(EPOCH, 1, message)
    fields = opened(data)
    common = first_column(section(title).split("further fields")[0])
    cell = row_of(title, str(fields["kind"])).split("|")[0]
    assert {*common, *re.findall(r"`(\w+)` (?:text|boolean|integer|double|array)", cell)} == set(fields)


@pytest.mark.parametrize("message", SESSION, ids=lambda message: type(message).__name__)
def test_every_message_of_the_session_has_a_table_with_exactly_its_fields(message: messages.SessionMessage):
    fields = opened(messages.pack_session(message))
    text = paragraph(str(fields["kind"]))
    table = re.search(r"^\| field .*?(?=\n\n)", text, re.MULTILINE | re.DOTALL)
    assert (first_column(table[0]) if table else ["kind"]) == list(fields)


def test_the_frames_in_clear_have_exactly_their_fields():
    assert first_column(paragraph("Opening").partition("\n\n**")[0]) == list(opened(examples()["opening"]))
    text = re.findall(r"`(\w+)`", paragraph("Reply").partition(", with")[0])
    assert set(opened(examples()["reply"])) <= set(text)
    assert set(opened(examples()["clear refusal"])) <= set(re.findall(r"`(\w+)`", paragraph("Clear refusal")))


def test_dispatch_and_result_have_tables_with_exactly_their_fields():
    assert first_column(tables(section("Dispatch"))[0]) == list(opened(examples()["dispatch"]))
    result = opened(examples()["result"])
    whole, output = tables(section("Result"))[:2]
    assert first_column(whole) == list(result)
    outputs = result["outputs"]
    assert isinstance(outputs, list)
    assert first_column(output) == list(outputs[0])
    assert set(outputs[1]["content"]) <= set(re.findall(r"`(\w+)`", row_of("Result", "content")))


def test_every_key_that_messages_are_made_of_is_somewhere_in_the_document():
    files = Path(inspect.getfile(messages)).parent.glob("*.py")
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    keys = {
        key.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    assert len(keys) > 40
    assert not [key for key in sorted(keys) if f"`{key}`" not in TEXT]


def test_the_reasons_to_decline_and_the_codes_of_refusals_are_listed():
    source = inspect.getsource(claims) + inspect.getsource(opener)
    given = set(re.findall(r'"(\w+)"', " ".join(re.findall(r"Declined\(.*|Declines\(\"\w+\"", source))))
    assert set(first_column(tables(section("Messages up"))[2])) == given == intake.REASONS
    codes = set(re.findall(r"`(\w+)`", (Refusal.__doc__ or "").partition("`code`")[2]))
    assert codes <= set(first_column(paragraph("refusal")))


def test_every_packed_example_is_what_the_code_writes():
    (shown,) = json_blocks("Packed messages")
    assert shown == {name: data.hex() for name, data in examples().items()}


def test_the_vectors_shown_are_the_vectors_checked():
    assert json_blocks("Seals and keys, in numbers") == [
        json.loads((Path(__file__).parent / "vectors.json").read_text())
    ]


# ---------------------------------------------------------------------- Redis


def keys_of_the_code() -> set[str]:
    """Every key pattern of `keyspace`, written as the document writes it."""
    blanks = {"target": ["<T>"], "dispatch": ["<id>"], "machine": ["<machine>"], "name": ["<W>"]}
    blanks["kind"] = re.findall(r"`(\w+)`", (keyspace.registry.__doc__ or "").partition("`kind` is")[2])
    found = {keyspace.QUEUES, keyspace.WORKERS, keyspace.BELL, keyspace.ECHO, keyspace.REPO}
    for name, function in inspect.getmembers(keyspace, inspect.isfunction):
        first, *more = inspect.signature(function).parameters
        found.update(function(value, *(blanks[other][0] for other in more)) for value in blanks[first])
        assert function.__doc__, name
    return found


def test_every_key_of_the_code_is_a_row_of_the_table_and_no_other():
    shown = set(first_column(tables(section("Redis keys"))[0]))
    assert keys_of_the_code() <= shown
    stems = {re.sub(r"<.*", "", key) for key in shown} | {"swamp:m:"}
    in_lua = set(re.findall(r"'((?:rq|swamp):[a-z:]*)'", LUA))
    assert not in_lua - stems - {"rq:"}
    assert stems <= in_lua | {re.sub(r"<.*", "", key) for key in keys_of_the_code()}


def test_every_field_of_a_job_and_of_a_worker_is_listed():
    written = re.findall(r"'([a-z_]+)', ", LUA[LUA.index("local function push") : LUA.index("local function look")])
    assert {"swamp", "stopped_callback_name"} < set(written)
    assert not [field for field in written if f"`{field}`" not in section("Redis keys")]


def test_every_function_has_its_arguments_listed():
    registered = re.findall(r"(?:register_function\(|function_name = )'(\w+)'", LUA)
    assert len(registered) == LUA.count("redis.register_function")
    for name in registered:
        body = LUA[LUA.index(f"local function {name.removeprefix(keyspace.LIBRARY + '_')}(") :]
        wanted = set(re.findall(r"request\.(\w+)", body[: body.index("\nend\n")]))
        if name == "swamp1_exchange":
            given = set(first_column(tables(section("`swamp1_exchange`, called by workers"))[0]))
        else:
            given = set(re.findall(r"`(\w+)`", row_of("Called by the orchestrator", name).split("|")[0]))
        assert wanted, name
        assert wanted <= given, name
    sent = set(re.findall(r'_call\(\s*client,\s*"(\w+)"', inspect.getsource(functions)))
    assert {f"{keyspace.LIBRARY}_{call}" for call in sent} == set(registered)


def test_the_records_of_the_mirror_are_those_of_the_library():
    comment = LUA[LUA.index("-- records   in order") : LUA.index("local function mirror")].replace("--", "")
    written = re.findall(r'^   \{("\w+", .*?)\}(?=\n   [{l]|\n?:|\n$)', comment, re.MULTILINE | re.DOTALL)
    shown = re.findall(r'^\[("\w+", .*?)\]$', section("Called by the orchestrator"), re.MULTILINE | re.DOTALL)
    assert len(written) == 5

    def plain(record: str) -> str:
        return re.sub(r"[^a-z]+", " ", record)

    assert [plain(record) for record in shown] == [plain(record) for record in written]


def test_a_machine_may_do_exactly_what_the_document_says():
    both = acl.worker_rules(TARGET, MACHINE, "0" * 64), acl.delivering_rules(MACHINE, "0" * 64)
    blocks = re.findall(r"```\n(.*?)```", section("Redis users"), re.DOTALL)
    for block, rules in zip(blocks, both, strict=True):
        shown = block.replace("<SHA-256 of the password>", "0" * 64).replace("<T>", TARGET)
        assert sorted(shown.replace("<machine>", MACHINE).split()) == sorted(rules)


# ---------------------------------------------------------------------- the rest


def numbers() -> Iterator[str]:
    yield from (f"{number:,}" for number in (codec.MAX_SIZE, codec.MAX_LENGTH, ledger.WINDOW, slots.BIG, session.PART))
    yield from (f"{noise.MAX_PAYLOAD:,}", f"{codec.MAX_DEPTH} arrays", f"{blobs.INLINE_LIMIT:,}")
    yield from (f"1 to {tunnel.LONGEST:,} bytes", f"at most {tunnel.RECORDS} Noise transport messages")
    yield f"{voice.UNACKNOWLEDGED_MESSAGES:,} of its messages"
    yield f"at most {MOST} such connections at a time"
    yield from (f"({leases.HEARTBEAT})", f"{leases.SILENCE:.0f} seconds", f"{voice.UNACKNOWLEDGED_LIMIT >> 20} MiB")
    yield from (
        f"at most {ledger.MOST_ATTEMPTS} dispatches of one step may be lost",
        f"again every {core.CANCEL_AGAIN:.0f} seconds",
    )
    yield from (f"up to {opener.GENERATIONS_AHEAD} greater", f"at most {signing.MOST_STEPS}\n")
    yield f"Ours last {'a day' if timedelta(days=1) == packing.LIFETIME else packing.LIFETIME}"
    yield f"({workflow.LOST_TIMEOUT} seconds if it says nothing)"
    yield from (f"0x{store.APPLICATION_ID:08X}", f"`user_version` {schema.VERSION}", f"the number {messages.PROTOCOL}.")


@pytest.mark.parametrize("number", list(numbers()))
def test_every_number_is_the_one_of_the_code(number: str):
    assert number in TEXT


def test_every_request_of_the_command_line_is_listed():
    routes = re.findall(r'Route\("(/api/[^"]+)"', inspect.getsource(app))
    shown = " ".join(first_column(section("HTTP of the command line")))
    assert len(routes) > 5
    assert not [route for route in routes if route.replace("{", "<").replace("}", ">") not in shown]
