"""How outputs become versions and are found again."""

from __future__ import annotations

import hashlib
import stat
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swamp.data.blobs import INLINE_LIMIT, blob_path, put_blobs
from swamp.data.record import Blob, Origin, Output
from swamp.data.store import Store
from swamp.data.versions import (
    NewData,
    add_versions,
    find_version,
    list_latest,
    list_versions,
    read_content,
)
from swamp.errors import NotFound, SwampError
from tests.data.samples import NOON, file, resource


def test_versions_count_from_one_for_each_name_of_each_model(store: Store) -> None:
    with store.write() as tx:
        first = add_versions(tx, store.blobs, [resource({}), file(b""), resource({}), resource({}, model="other")])
    with store.write() as tx:
        second = add_versions(tx, store.blobs, [file(b""), resource({})])
    assert [(added.name, added.version) for added in first] == [("result", 1), ("log", 1), ("result", 2), ("result", 1)]
    assert [(added.name, added.version) for added in second] == [("log", 2), ("result", 3)]
    assert len({added.id for added in first + second}) == 6


def test_everything_about_a_version_is_kept(store: Store) -> None:
    origin = Origin("remote-demo", "run-1", "build", "echo", "build-node", "m-1")
    with store.write() as tx:
        [added] = add_versions(
            tx,
            store.blobs,
            [resource({"stdout": "é"}, tags={"kind": "test", "ä": "ö"}, origin=origin)],
            new_id=lambda: "id-1",
        )
    with store.read() as tx:
        version = find_version(tx, "remote-echo", "result")
        content = read_content(tx, store.blobs, version)
    assert added.spec_name == version.spec_name == "result"
    assert (version.id, version.model_id, version.model_type) == ("id-1", "id-of-remote-echo", "command/shell")
    assert (version.version, version.is_latest, version.created_at) == (1, True, NOON)
    assert (version.data_type, version.content_type) == ("resource", "application/json")
    assert version.tags == {"kind": "test", "ä": "ö"}
    assert version.origin == origin
    assert version.size == len(content)
    assert version.checksum == hashlib.sha256(content).hexdigest()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    st.one_of(
        st.binary(max_size=300), st.integers(-1, 1).map(lambda more: b"\0\xff" * (INLINE_LIMIT // 2) + b"x" * more)
    )
)
def test_content_comes_back_byte_for_byte(store: Store, content: bytes) -> None:
    with store.write() as tx:
        add_versions(tx, store.blobs, [file(content)])
    with store.read() as tx:
        version = find_version(tx, "remote-echo", "log")
        assert read_content(tx, store.blobs, version) == content


def test_only_long_content_becomes_a_file_and_equal_content_one_file(store: Store) -> None:
    long = b"x" * (INLINE_LIMIT + 1)
    with store.write() as tx:
        add_versions(tx, store.blobs, [file(b"x" * INLINE_LIMIT), file(long), file(long)])
    files = [path for path in store.blobs.rglob("*") if path.is_file()]
    assert files == [blob_path(store.blobs, hashlib.sha256(long).hexdigest())]
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600


def test_content_that_lies_in_a_file_already_is_taken_as_it_is(store: Store) -> None:
    content = b"from elsewhere"
    checksum = hashlib.sha256(content).hexdigest()
    put_blobs(store.blobs, [(checksum, content)])
    output = Output("log", "log", "file", "text/plain", Blob(checksum, len(content)))
    with store.write() as tx:
        add_versions(tx, store.blobs, [NewData("m", "m", "command/shell", output, Origin(), NOON)])
    with store.read() as tx:
        version = find_version(tx, "m", "log")
        assert (version.size, version.checksum) == (len(content), checksum)
        assert read_content(tx, store.blobs, version) == content


@pytest.mark.parametrize("harm", ["missing", "changed", "cut"])
def test_damaged_content_is_told_and_never_given_out(store: Store, harm: str) -> None:
    with store.write() as tx:
        add_versions(tx, store.blobs, [file(b"x" * 100_000)])
    with store.read() as tx:
        version = find_version(tx, "remote-echo", "log")
        path = blob_path(store.blobs, version.checksum)
        if harm == "missing":
            path.unlink()
        else:
            path.write_bytes(b"y" * 100_000 if harm == "changed" else b"x" * 99_999)
        with pytest.raises(SwampError) as error:
            read_content(tx, store.blobs, version)
    assert error.value.code == "content_damaged"


def test_a_file_that_was_cut_by_hand_is_mended_by_the_next_equal_content(store: Store) -> None:
    with store.write() as tx:
        add_versions(tx, store.blobs, [file(b"x" * 100_000)])
    [path] = [path for path in store.blobs.rglob("*") if path.is_file()]
    path.write_bytes(b"x")
    with store.write() as tx:
        add_versions(tx, store.blobs, [file(b"x" * 100_000)])
    assert path.stat().st_size == 100_000


def test_a_version_is_found_by_the_name_or_the_id_of_its_model(store: Store) -> None:
    with store.write() as tx:
        add_versions(tx, store.blobs, [resource({"n": n}) for n in range(3)])
    with store.read() as tx:
        for model in ("remote-echo", "id-of-remote-echo"):
            assert find_version(tx, model, "result").version == 3
            older = find_version(tx, model, "result", 2)
            assert (older.version, older.is_latest) == (2, False)
            assert [version.version for version in list_versions(tx, model, "result")] == [3, 2, 1]


def test_of_two_models_that_had_a_name_in_turn_the_last_writer_is_meant(store: Store) -> None:
    def of(model_id: str) -> NewData:
        output = Output("result", "result", "resource", "application/json", b"{}")
        return NewData(model_id, "remote-echo", "command/shell", output, Origin(), NOON)

    with store.write() as tx:
        add_versions(tx, store.blobs, [of("old"), of("old"), of("new")])
    with store.read() as tx:
        assert find_version(tx, "remote-echo", "result").model_id == "new"
        assert [version.model_id for version in list_versions(tx, "remote-echo", "result")] == ["new"]
        assert [version.model_id for version in list_versions(tx, "old", "result")] == ["old", "old"]


def test_what_is_not_there_is_told_with_what_to_type(store: Store) -> None:
    with store.write() as tx:
        add_versions(tx, store.blobs, [resource({})])
    with store.read() as tx:
        with pytest.raises(NotFound, match="no version 7") as error:
            find_version(tx, "remote-echo", "result", 7)
        assert error.value.hint == "see which there are: swamp data versions remote-echo result"
        for model, name, version in (("remote-echo", "reslut", None), ("nobody", "result", None), ("nobody", "x", 1)):
            with pytest.raises(NotFound, match="there is no data"):
                find_version(tx, model, name, version)


def test_the_latest_are_one_of_each_name_whatever_the_number_of_versions(store: Store) -> None:
    models = [f"model-{number}" for number in range(7)]
    with store.write() as tx:
        for round_ in range(5):
            for model in models[: round_ + 3]:
                add_versions(tx, store.blobs, [resource({}, model=model), file(b"", model=model)])
    with store.read() as tx:
        latest = list_latest(tx)
        assert [(version.model_name, version.name) for version in latest] == [
            (model, name) for model in models for name in ("log", "result")
        ]
        for version in latest:
            assert version.is_latest
            assert version.version == list_versions(tx, version.model_name, version.name)[0].version
        assert [version.name for version in list_latest(tx, "model-3")] == ["log", "result"]
        assert list_latest(tx, "nobody") == []


def test_ten_thousand_results_are_stored_within_a_second(store: Store) -> None:
    items = [resource({"stdout": "x" * 100, "exitCode": 0}) for _ in range(10_000)]
    started = time.process_time()
    for at in range(0, len(items), 100):
        with store.write() as tx:
            add_versions(tx, store.blobs, items[at : at + 100])
    assert time.process_time() - started < 1.0
