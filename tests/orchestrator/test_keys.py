"""The orchestrator's own keys: made once, and what is derived from them is written down."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from swamp.errors import Invalid
from swamp.orchestrator.keys import OrchestratorKeys, load_keys, load_or_create_keys
from swamp.repo import Repo

VECTOR = json.loads((Path(__file__).parents[1] / "wire" / "vectors.json").read_text())["target_key"]


def test_the_written_vector_of_a_target_key_holds():
    master = bytes.fromhex(VECTOR["master"])
    keys = OrchestratorKeys(X25519PrivateKey.generate(), Ed25519PrivateKey.generate(), master, "", "", "")
    assert keys.target_key(VECTOR["target"], VECTOR["generation"]).hex() == VECTOR["key"]
    assert keys.target_key(VECTOR["target"], VECTOR["generation"] + 1).hex() != VECTOR["key"]


def test_keys_are_made_once_and_for_nobody_else_to_read(tmp_path: Path):
    repo = Repo(tmp_path)
    assert load_keys(repo) is None
    made = load_or_create_keys(repo, os.urandom)
    again = load_or_create_keys(repo, os.urandom)
    for ours, theirs in ((made.static, again.static), (made.signing, again.signing)):
        assert ours.private_bytes_raw() == theirs.private_bytes_raw()
    assert made.targets == again.targets
    (file,) = repo.keys.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"static": "00"}'])
def test_a_damaged_file_is_an_error_and_not_a_reason_to_make_new_keys(tmp_path: Path, content: str):
    repo = Repo(tmp_path)
    load_or_create_keys(repo, os.urandom)
    (file,) = repo.keys.iterdir()
    file.write_text(content)
    with pytest.raises(Invalid, match="is damaged"):
        load_or_create_keys(repo, os.urandom)
    assert file.read_text() == content
