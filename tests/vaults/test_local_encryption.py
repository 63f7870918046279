from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swamp.errors import Invalid, NotFound
from swamp.repo import Repo
from swamp.vaults.local_encryption import LocalEncryption
from swamp.vaults.vault import KEY_LENGTH, Vault, check_key


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return same_vault(tmp_path)


def same_vault(root: Path, seed: int = 1) -> LocalEncryption:
    return LocalEncryption(Repo(root), "main", Random(seed).randbytes)


def directory(root: Path) -> Path:
    return Repo(root).secrets / "main"


def test_a_secret_comes_back_also_in_another_process(vault, tmp_path):
    vault.put("api-key", "höchst geheim\n")
    assert same_vault(tmp_path, seed=2).get("api-key") == "höchst geheim\n"


def test_a_newer_value_replaces_the_older_one(vault):
    vault.put("k", "old")
    vault.put("k", "new")
    assert (vault.get("k"), vault.keys()) == ("new", ["k"])


def test_keys_that_look_alike_or_look_like_paths_are_kept_apart(vault):
    keys = ["a", "A", "a/b", "a/b/c", "a.b", "a-b", "a_b", "key", "...", "a.secret", "-rf"]
    for key in keys:
        vault.put(key, f"value of {key}")
    assert vault.keys() == sorted(keys)
    assert [vault.get(key) for key in keys] == [f"value of {key}" for key in keys]


def test_nothing_is_readable_by_others_and_no_value_lies_in_clear(vault, tmp_path):
    vault.put("k", "the value")
    paths = [Repo(tmp_path).state, *Repo(tmp_path).state.rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o700, 0o600}
    assert not any(b"the value" in path.read_bytes() for path in paths if path.is_file())


def test_two_values_never_share_a_nonce(vault, tmp_path):
    contents = []
    for _ in range(2):
        vault.put("k", "same")
        contents += [file.read_bytes() for file in directory(tmp_path).glob("*.secret")]
    assert contents[0] != contents[1]


def test_a_deleted_secret_is_gone(vault, tmp_path):
    vault.put("k", "v")
    vault.delete("k")
    assert not vault.holds("k")
    assert vault.keys() == []
    assert [path.name for path in directory(tmp_path).iterdir()] == ["key"]


@pytest.mark.parametrize("act", ["get", "delete"])
def test_a_missing_secret_names_the_nearest(act, vault):
    vault.put("api-key", "v")
    with pytest.raises(NotFound, match="'api-kee'; did you mean 'api-key'"):
        getattr(vault, act)("api-kee")


def test_reading_an_unused_vault_writes_nothing(vault, tmp_path):
    assert vault.keys() == []
    with pytest.raises(NotFound):
        vault.get("k")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "key",
    ["", ".", "..", "../x", "a/../b", "/a", "a/", "a//b", "a/./b", "a b", "a\\b", "a\0", "a\n", "ä", "k" * 201],
)
def test_keys_that_are_no_names_are_refused_by_every_method(key, vault):
    for act in (vault.get, vault.delete, vault.holds, lambda key: vault.put(key, "v")):
        with pytest.raises(Invalid):
            act(key)


@given(st.text(st.sampled_from("aZ09._/-"), max_size=KEY_LENGTH + 1))
def test_an_accepted_key_never_leaves_its_place(key):
    try:
        check_key(key)
    except Invalid:
        return
    assert (Path("/vault") / key).resolve() == Path("/vault") / key
    assert Path("/vault") in (Path("/vault") / key).parents


def test_a_key_with_a_value_in_it_does_not_show_the_value():
    with pytest.raises(Invalid) as error:
        check_key("API_KEY=hunter2")
    assert "hunter2" not in error.value.message + (error.value.hint or "")


def test_a_value_that_is_no_text_is_refused_without_showing_it(vault):
    with pytest.raises(Invalid) as error:
        vault.put("k", "hunter2\udcff")
    assert "hunter2" not in str(error.value.as_dict())
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__
    assert not vault.holds("k")


def test_a_changed_file_is_an_error_that_says_what_to_do(vault, tmp_path):
    vault.put("k", "v")
    vault.put("other", "w")
    first, second = directory(tmp_path).glob("*.secret")
    first.write_bytes(second.read_bytes())
    with pytest.raises(Invalid, match="cannot be decrypted") as error:
        [vault.get(key) for key in ("k", "other")]
    assert "swamp vault put main" in (error.value.hint or "")


def test_a_damaged_file_is_named_when_keys_are_listed(vault, tmp_path):
    vault.put("k", "v")
    next(directory(tmp_path).glob("*.secret")).write_bytes(b"{")
    with pytest.raises(Invalid, match=r"\.secret is damaged"):
        vault.keys()


def test_a_lost_key_file_is_never_replaced_while_secrets_are_left(vault, tmp_path):
    vault.put("k", "v")
    (directory(tmp_path) / "key").unlink()
    for act in (lambda: vault.get("k"), lambda: vault.put("l", "w")):
        with pytest.raises(Invalid, match="is gone"):
            act()
    assert not (directory(tmp_path) / "key").exists()


def test_a_vault_without_secrets_gets_a_new_key_file(vault, tmp_path):
    vault.prepare()
    (directory(tmp_path) / "key").unlink()
    vault.put("k", "v")
    assert vault.get("k") == "v"


@pytest.mark.parametrize("content", ["", "00", "not hex at all", "0" * 66])
def test_a_damaged_key_file_is_an_error(content, vault, tmp_path):
    vault.put("k", "v")
    (directory(tmp_path) / "key").write_text(content)
    with pytest.raises(Invalid, match="damaged"):
        vault.get("k")


def test_a_key_file_that_others_may_read_is_refused(vault, tmp_path):
    vault.put("k", "v")
    (directory(tmp_path) / "key").chmod(0o640)
    with pytest.raises(Invalid) as error:
        vault.get("k")
    assert "chmod 600" in (error.value.hint or "")


def test_many_writers_at_once_lose_nothing(tmp_path):
    def put(number: int) -> None:
        # A vault of its own, as in a process of its own; the first ones race for the key file too.
        same_vault(tmp_path, seed=number).put(f"key-{number % 20}", f"value {number % 20}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(60)))

    vault = same_vault(tmp_path, seed=99)
    assert vault.keys() == sorted(f"key-{number}" for number in range(20))
    assert all(vault.get(f"key-{number}") == f"value {number}" for number in range(20))
