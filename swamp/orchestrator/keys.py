"""The orchestrator's own secrets, in one private file: who has it can pose as the orchestrator.

`.swamp/keys/orchestrator.json` (0600): the static X25519 key and the Ed25519 signing key, which workers pin, the master
key that target keys come from, and the passwords of the three Redis users that are not a machine's. To lose the file is
to join again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from swamp.errors import Invalid
from swamp.files import make_private_dir, write_atomically
from swamp.repo import Repo

FILE = "orchestrator.json"
_FIELDS = ("static", "signing", "targets", "redisOrchestrator", "redisMonitor", "redisOperator")


@dataclass(frozen=True)
class OrchestratorKeys:
    static: X25519PrivateKey
    signing: Ed25519PrivateKey
    targets: bytes  #: 32 bytes; the master of all target keys
    redis_orchestrator: str
    redis_monitor: str
    redis_operator: str

    def target_key(self, target: str, generation: int) -> bytes:
        """The key (32 bytes) that dispatches to `target` are sealed under: HKDF-SHA256 of the master, info
        `swamp1 target <name> <generation>`."""
        info = f"swamp1 target {target} {generation}".encode()
        return HKDF(SHA256(), 32, salt=None, info=info).derive(self.targets)


def load_keys(repo: Repo) -> OrchestratorKeys | None:
    """The stored keys; None where no orchestrator ever ran. Raises `Invalid` for a damaged file."""
    path = repo.keys / FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        values = [bytes.fromhex(document[name]) for name in _FIELDS]
        if any(len(value) != 32 for value in values):
            raise ValueError("a key has another length")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Invalid(
            f"{path} is damaged", hint="restore it from a backup; without it every worker has to join again"
        ) from error
    return OrchestratorKeys(
        X25519PrivateKey.from_private_bytes(values[0]),
        Ed25519PrivateKey.from_private_bytes(values[1]),
        values[2],
        *(value.hex() for value in values[3:]),
    )


def load_or_create_keys(repo: Repo, random: Callable[[int], bytes]) -> OrchestratorKeys:
    """The stored keys, made first if there are none. `random(n)` gives n secret bytes."""
    keys = load_keys(repo)
    if keys is not None:
        return keys
    make_private_dir(repo.keys)
    document = {name: random(32).hex() for name in _FIELDS}
    write_atomically(repo.keys / FILE, (json.dumps(document, indent=2) + "\n").encode(), mode=0o600)
    made = load_keys(repo)
    if made is None:
        raise Invalid(f"{repo.keys / FILE} vanished while it was made")
    return made
