from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

import swamp
from swamp import marker
from swamp.cli.main import run
from swamp.errors import Invalid
from swamp.repo import Repo
from tests.processes import run_swamp


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWAMP_REPO_DIR", raising=False)


def everything(directory: Path) -> dict[str, bytes | None]:
    """Every file's content and every directory (None) under `directory`."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None for path in directory.rglob("*")
    }


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("words", [["init"], ["repo", "init"]], ids=" ".join)
def test_a_repository_is_made_and_the_next_commands_are_named(words, tmp_path, capsys):
    assert run(words) == 0

    assert set(everything(tmp_path)) == {".swamp.yaml", ".gitignore", ".swamp", "models", "workflows", "vaults"}
    assert mode(tmp_path / ".swamp") == 0o700
    assert (tmp_path / ".gitignore").read_text() == ".swamp/\n"
    shown = capsys.readouterr()
    assert shown.out.startswith(f"Initialized a Swamp repository at {tmp_path}\nWhat's next:\n  swamp vault create ")
    assert shown.err == ""


def test_the_marker_holds_version_time_and_an_id(tmp_path, capsys):
    assert run(["init", "--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    found = marker.read(Repo(tmp_path))
    assert (found.swamp_version, found.initialized_at) == (swamp.__version__, document["initializedAt"])
    assert found.repo_id == document["repoId"] == str(UUID(document["repoId"]))
    assert document["path"] == str(tmp_path)
    assert document["gitignoreAction"] == "created"
    assert document["nextSteps"][0].startswith("swamp vault create")


def test_a_path_is_made_with_its_parents_and_named_in_the_next_step(tmp_path, capsys):
    assert run(["init", "a/b c"]) == 0

    assert (tmp_path / "a" / "b c" / ".swamp.yaml").is_file()
    assert "\n  cd 'a/b c'\n" in capsys.readouterr().out


def test_without_a_path_the_directory_of_repo_dir_is_taken(tmp_path):
    assert run(["init", "--repo-dir", "elsewhere"]) == 0

    assert (tmp_path / "elsewhere" / ".swamp.yaml").is_file()


def test_a_second_init_is_refused_and_changes_nothing(tmp_path, capsys):
    run(["init"])
    before = everything(tmp_path)
    capsys.readouterr()

    assert run(["init"]) == 1

    assert "--force" in capsys.readouterr().err
    assert everything(tmp_path) == before


def test_force_makes_what_is_missing_and_keeps_everything_else(tmp_path):
    run(["init"])
    with (tmp_path / ".swamp.yaml").open("a") as file:
        file.write("# a remark\ntools: [none]\n")
    (tmp_path / "models" / "mine.yaml").write_text("mine")
    (tmp_path / "workflows").rmdir()
    before = everything(tmp_path)

    assert run(["init", "--force"]) == 0

    assert everything(tmp_path) == {**before, "workflows": None}


def test_force_gives_an_empty_marker_an_id_and_keeps_its_remarks(tmp_path):
    (tmp_path / ".swamp.yaml").write_text("# mine")
    with pytest.raises(Invalid):
        marker.read(Repo(tmp_path))

    assert run(["init", "--force"]) == 0

    assert UUID(marker.read(Repo(tmp_path)).repo_id)
    assert (tmp_path / ".swamp.yaml").read_text().startswith("# mine\n")


def test_force_does_not_touch_a_damaged_marker(tmp_path, capsys):
    (tmp_path / ".swamp.yaml").write_text("repoId: [")
    before = everything(tmp_path)

    assert run(["init", "--force"]) == 1

    assert ".swamp.yaml" in capsys.readouterr().err
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["models", "workflows", "vaults", ".swamp"])
def test_a_file_in_the_way_is_named_before_anything_is_made(name, tmp_path, capsys):
    (tmp_path / name).write_text("in the way")
    before = everything(tmp_path)

    assert run(["init"]) == 1

    assert f"{tmp_path / name} is in the way" in capsys.readouterr().err
    assert everything(tmp_path) == before


def test_a_path_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")

    assert run(["init", "file"]) == 1

    assert "is in the way" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after", "action"),
    [
        ("build/\n", "build/\n.swamp/\n", "appended"),
        ("build/", "build/\n.swamp/\n", "appended"),
        ("", ".swamp/\n", "appended"),
        ("/.swamp\nbuild/\n", "/.swamp\nbuild/\n", "kept"),
        (".swamp/", ".swamp/", "kept"),
        ("# .swamp/\n", "# .swamp/\n.swamp/\n", "appended"),
        ("!.swamp/\n", "!.swamp/\n.swamp/\n", "appended"),
    ],
)
def test_an_existing_gitignore_keeps_its_lines(before, after, action, tmp_path, capsys):
    (tmp_path / ".gitignore").write_text(before)

    run(["init", "--json"])

    assert (tmp_path / ".gitignore").read_text() == after
    assert json.loads(capsys.readouterr().out)["gitignoreAction"] == action


def test_a_gitignore_keeps_its_permissions(tmp_path):
    (tmp_path / ".gitignore").touch()
    (tmp_path / ".gitignore").chmod(0o664)

    run(["init"])

    assert mode(tmp_path / ".gitignore") == 0o664


def test_a_repository_inside_another_is_pointed_out(tmp_path, capsys):
    run(["init"])

    assert run(["init", "models/inner"]) == 0

    assert f"inside another repository, {tmp_path}" in capsys.readouterr().err


def test_of_several_inits_at_once_one_makes_the_repository(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(lambda _: run_swamp("init", "--json", cwd=tmp_path), range(4)))

    winners = [done for done in ended if done.code == 0]
    assert len(winners) == 1
    assert json.loads(winners[0].stdout)["repoId"] == marker.read(Repo(tmp_path)).repo_id
    assert all(json.loads(done.stderr)["code"] == "exists" for done in ended if done.code)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_is_named(tmp_path, capsys):
    (tmp_path / "closed").mkdir(mode=0o500)

    assert run(["init", "closed"]) == 4

    error = capsys.readouterr().err
    assert "Permission denied" in error
    assert ".tmp-" not in error
