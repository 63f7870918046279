from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swamp.files import create_atomically, make_private_dir, remove_durably, write_atomically


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_with_its_permission_and_leaves_nothing_beside_it(tmp_path):
    file = tmp_path / "file"
    write_atomically(file, b"old", 0o600)
    write_atomically(file, b"new", 0o640)
    assert (file.read_bytes(), mode(file), list(tmp_path.iterdir())) == (b"new", 0o640, [file])


def test_the_umask_does_not_change_the_permission(tmp_path):
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "file", b"", 0o644)
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == 0o644


def test_what_cannot_be_written_leaves_the_old_content_and_no_temporary_file(tmp_path):
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "full").touch()
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "directory", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


def test_an_existing_file_is_not_created_again(tmp_path):
    file = tmp_path / "file"
    create_atomically(file, b"first")
    with pytest.raises(FileExistsError):
        create_atomically(file, b"second")
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (b"first", [file])


def test_of_many_creators_at_once_one_succeeds(tmp_path):
    def create(number: int) -> int | None:
        try:
            create_atomically(tmp_path / "file", str(number).encode())
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(create, range(8)) if number is not None]
    assert winners == [int((tmp_path / "file").read_bytes())]


def test_a_private_directory_and_its_new_parents_are_closed_and_old_parents_stay_open(tmp_path):
    tmp_path.chmod(0o755)
    make_private_dir(tmp_path / "a" / "b")
    assert [mode(path) for path in (tmp_path, tmp_path / "a", tmp_path / "a" / "b")] == [0o755, 0o700, 0o700]


def test_an_open_directory_is_closed(tmp_path):
    tmp_path.chmod(0o755)
    make_private_dir(tmp_path)
    assert mode(tmp_path) == 0o700


def test_removing_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        remove_durably(tmp_path / "file")
