from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from swamp.errors import Invalid, NotFound, SwampError, Usage
from swamp.repo import Repo
from swamp.vaults.catalog import create_vault, list_vaults, open_vault, the_only_vault

ID = UUID(int=7)
NOW = datetime(2026, 6, 15, 10, tzinfo=UTC)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    (tmp_path / ".swamp.yaml").touch()
    return Repo(tmp_path)


def create(repo: Repo, name: str) -> None:
    create_vault(repo, "local_encryption", name, ID, NOW)


def files(repo: Repo) -> set[str]:
    return {str(path.relative_to(repo.root)) for path in repo.root.rglob("*") if path.is_file()}


def test_a_vault_is_a_configuration_file_and_a_key_file(repo):
    create(repo, "main")
    assert files(repo) == {".swamp.yaml", ".swamp/secrets/main/key", "vaults/local_encryption/main.yaml"}
    assert (repo.vaults / "local_encryption" / "main.yaml").read_text() == (
        f"id: {ID}\nname: main\ntype: local_encryption\nconfig: {{}}\ncreatedAt: '2026-06-15T10:00:00.000Z'\n"
    )


def test_vaults_are_listed_by_name(repo):
    assert list_vaults(repo) == []
    create(repo, "second")
    create(repo, "first")
    assert [(info.name, info.type, info.id) for info in list_vaults(repo)] == [
        ("first", "local_encryption", str(ID)),
        ("second", "local_encryption", str(ID)),
    ]


def test_vaults_keep_their_secrets_apart(repo):
    create(repo, "a")
    create(repo, "b")
    open_vault(repo, "a").put("k", "of a")
    assert not open_vault(repo, "b").holds("k")


def test_a_name_is_given_once(repo):
    create(repo, "main")
    open_vault(repo, "main").put("k", "v")
    with pytest.raises(Invalid, match="already is a vault 'main'"):
        create(repo, "main")
    assert open_vault(repo, "main").get("k") == "v"


def test_of_many_creators_at_once_one_succeeds_and_its_vault_works(repo):
    def attempt(_: int) -> str:
        try:
            create(repo, "main")
        except SwampError as error:
            return error.code
        return "created"

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(attempt, range(8))) == ["created"] + ["exists"] * 7
    open_vault(repo, "main").put("k", "v")
    assert open_vault(repo, "main").get("k") == "v"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "Upper", "-x", ".x", "x" * 65, "a b"])
def test_a_bad_name_makes_nothing(name, repo):
    with pytest.raises(Invalid):
        create(repo, name)
    assert files(repo) == {".swamp.yaml"}


def test_an_unknown_type_names_the_known_ones_and_makes_nothing(repo):
    with pytest.raises(NotFound, match="did you mean 'local_encryption'"):
        create_vault(repo, "local-encryption", "main", ID, NOW)
    assert files(repo) == {".swamp.yaml"}


def test_type_and_name_in_the_wrong_order_show_the_right_one(repo):
    with pytest.raises(NotFound) as error:
        create_vault(repo, "main", "local_encryption", ID, NOW)
    assert "swamp vault create local_encryption main" in (error.value.hint or "")


def test_a_clone_of_the_repository_has_the_vault_empty(repo):
    path = repo.vaults / "local_encryption" / "main.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("id: x\nname: main\ntype: local_encryption\n")
    assert open_vault(repo, "main").keys() == []
    open_vault(repo, "main").put("k", "v")
    assert open_vault(repo, "main").get("k") == "v"


def test_the_one_vault_needs_no_name(repo):
    create(repo, "main")
    assert the_only_vault(repo, None).name == "main"
    assert the_only_vault(repo, "main").name == "main"


def test_no_vault_names_the_command_that_makes_one(repo):
    with pytest.raises(NotFound) as error:
        the_only_vault(repo, None)
    assert "swamp vault create local_encryption " in (error.value.hint or "")
    assert error.value.code == "no_vault"


def test_several_vaults_are_named_and_so_is_the_option(repo):
    create(repo, "a")
    create(repo, "b")
    with pytest.raises(Usage, match=r"\(a, b\)") as error:
        the_only_vault(repo, None)
    assert "--vault a" in (error.value.hint or "")
    assert the_only_vault(repo, "b").name == "b"


def test_an_unknown_vault_names_the_nearest_and_all(repo):
    create(repo, "main")
    create(repo, "other")
    with pytest.raises(NotFound, match="did you mean 'main'") as error:
        the_only_vault(repo, "mian")
    assert error.value.hint == "vaults: main, other"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: main\ntype: local_encryption\n", "has no 'id'"),
        ("id: x\nname: other\ntype: local_encryption\n", ":2: 'name' is 'other', but the file's place says 'main'"),
        ("id: x\nname: main\ntype: aws\n", ":3: 'type' is 'aws'"),
        ("id: x\nnmae: main\ntype: local_encryption\n", ":2: unknown key 'nmae' in the vault; did you mean 'name'?"),
        ("id: [", "not YAML"),
        ("", "is empty"),
    ],
)
def test_a_bad_configuration_file_is_named_with_its_line(text, complaint, repo):
    path = repo.vaults / "local_encryption" / "main.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(Invalid) as error:
        open_vault(repo, "main")
    assert error.value.message.startswith("vaults/local_encryption/main.yaml")
    assert complaint in error.value.message


def test_a_type_that_this_version_does_not_know_is_an_error(repo):
    path = repo.vaults / "aws" / "main.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("id: x\nname: main\ntype: aws\n")
    with pytest.raises(Invalid, match="unknown vault type 'aws'"):
        list_vaults(repo)
