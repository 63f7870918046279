"""Where no secret may be, looked at after every end-to-end test: what was printed, arguments and environments of
processes, Redis, and everything on disk but the places that secrets are kept in."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from pathlib import Path
from urllib.request import Request, urlopen

import redis

from swamp.errors import SwampError
from swamp.models.redaction import is_too_short
from swamp.repo import Repo
from swamp.vaults.catalog import list_vaults, open_vault
from swamp.vaults.vault import TOKENS
from tests.processes import RunningSwamp

_HEX = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")

Place = tuple[str, bytes]  #: what it is called, and what is there


@dataclass
class Secrets:
    """By the names that people read."""

    hex: dict[bytes, str] = field(default_factory=dict)  #: 64 digits each
    hashed: dict[str, str] = field(default_factory=dict)  #: of which only the SHA-256 is known
    texts: dict[bytes, str] = field(default_factory=dict)  #: put into vaults by people

    def found_in(self, content: bytes, *, texts: bool = True) -> set[str]:
        found = set()
        for digits in set(_HEX.findall(content)):
            hashed = sha256(digits).hexdigest()
            found |= {name for name in (self.hex.get(digits), self.hashed.get(hashed)) if name}
        found |= {name for digits, name in self.hex.items() if bytes.fromhex(digits.decode()) in content}
        if texts:
            found |= {name for text, name in self.texts.items() if text in content}
        return found


def secrets_of(repo: Repo, caches: Iterable[Path]) -> Secrets:
    """All that there are now: of the vaults, the orchestrator, its machines and its port."""
    known = Secrets()
    for info in _vaults(repo):
        vault = open_vault(repo, info)
        for key in vault.keys():  # noqa: SIM118 - a vault is no mapping
            with suppress(SwampError):
                _remember(known, f"{key} of vault {info}", vault.get(key), token=key.startswith(TOKENS))
    for path, prefix in ((repo.keys / "orchestrator.json", "key"), (repo.serve_info, "serve.json's")):
        with suppress(FileNotFoundError, ValueError):
            for name, value in json.loads(path.read_text()).items():
                if prefix == "key" or name == "secret":
                    known.hex[str(value).encode()] = f"{prefix} {name}"
    for cache in caches:
        known.hex[(cache / "machine.key").read_bytes().strip()] = f"the key of the machine in {cache.name}"
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{repo.database}?mode=ro", uri=True)) as connection:
        for machine, digest in connection.execute("SELECT id, redis_password_hash FROM machines"):
            if digest:
                known.hashed[digest] = f"the Redis password of machine {machine}"
    known.hex = {digits: name for digits, name in known.hex.items() if _HEX.fullmatch(digits)}
    return known


def _vaults(repo: Repo) -> list[str]:
    try:
        return [info.name for info in list_vaults(repo)]
    except SwampError:
        return []  # a test has damaged one


def _remember(known: Secrets, name: str, value: str, *, token: bool) -> None:
    if token:
        for line in value.split("\n"):
            known.hex[line.rpartition(".")[2].encode()] = name
        return
    for text in {value, *value.split("\n")}:
        if not is_too_short(text):
            known.texts[text.encode()] = name


# ---------------------------------------------------------------------- where to look


def printed(processes: Iterable[RunningSwamp]) -> Iterator[Place]:
    for process in processes:
        yield f"what `swamp {' '.join(process.arguments[:2])}` printed", process.output.encode()


def in_arguments() -> Iterator[Place]:
    """Of every process that this user can see."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield f"the arguments of process {entry.name}", (entry / "cmdline").read_bytes()


def in_environments_of_steps() -> Iterator[Place]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            content = (entry / "environ").read_bytes()
            if b"SWAMP_STEP=" in content:
                yield f"the environment of a step's process {entry.name}", content


def in_redis(repo: Repo) -> Iterator[Place]:
    """What the embedded server holds, as its owner sees it, in one round trip for each kind of key."""
    try:
        url = json.loads(repo.serve_info.read_text())["redisUrl"]
        password = json.loads((repo.keys / "orchestrator.json").read_text())["redisOrchestrator"]
        client = redis.Redis.from_url(url, username="swamp", password=password, socket_timeout=5)
    except (FileNotFoundError, KeyError, ValueError):
        return
    with client, suppress(redis.RedisError):  # a test may have broken it, and its files are looked at in any case
        keys = list(client.scan_iter(count=5000))
        kinds = client.pipeline(transaction=False)
        for key in keys:
            kinds.type(key)
        contents = client.pipeline(transaction=False)
        for key, kind in zip(keys, kinds.execute(), strict=True):
            match kind:
                case b"string":
                    contents.get(key)
                case b"hash":
                    contents.hgetall(key)
                case b"list":
                    contents.lrange(key, 0, -1)
                case b"stream":
                    contents.xrange(key)
                case b"zset":
                    contents.zrange(key, 0, -1)
                case _:
                    contents.smembers(key)
        for key, held in zip(keys, contents.execute(raise_on_error=False), strict=True):
            yield f"Redis key {key!r}", b"\n".join(_leaves(key, held))


def in_answers(repo: Repo) -> Iterator[Place]:
    """What a running orchestrator tells to who may ask: figures, workers, what waits."""
    try:
        facts = json.loads(repo.serve_info.read_text())
    except (FileNotFoundError, ValueError):
        return
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError, ValueError):  # one that was killed, or stands still
        for path in ("/metrics", "/api/workers", "/api/queue", "/api/ready"):
            request = Request(f"{facts['url']}{path}", headers={"Authorization": f"Bearer {facts['secret']}"})
            with urlopen(request, timeout=5, context=context) as answer:
                yield f"the answer to {path}", answer.read()


def _leaves(*values: object) -> Iterator[bytes]:
    for value in values:
        if isinstance(value, bytes):
            yield value
        elif isinstance(value, dict):
            yield from _leaves(*value.keys(), *value.values())
        elif isinstance(value, list | tuple | set):
            yield from _leaves(*value)


def on_disk(directories: Iterable[Path], but: Sequence[Path] = ()) -> Iterator[Place]:
    for directory in directories:
        for where, _, files in os.walk(directory):
            for name in files:
                path = Path(where) / name
                if path not in but:
                    with suppress(OSError):  # gone meanwhile, or a socket
                        yield f"file {path}", path.read_bytes()


# ---------------------------------------------------------------------- the look


def caches_in(*directories: Path) -> list[Path]:
    """The cache directories of workers."""
    return [path.parent for directory in directories for path in directory.rglob("machine.key")]


def secrets_told(root: Path, scratch: Path, processes: Iterable[RunningSwamp]) -> list[str]:
    """Every secret of the repository that is where none may be; and keys that others than their owner may read."""
    repo = Repo(root)
    caches = caches_in(scratch)
    known = secrets_of(repo, caches)
    kept = [
        *(path for path in chain(repo.keys.rglob("*"), repo.secrets.rglob("*")) if path.is_file()),
        repo.serve_info,
        *(cache / "machine.key" for cache in caches),
    ]
    told = [f"{path} may be read by others" for path in kept if path.exists() and path.stat().st_mode & 0o077]
    everywhere = chain(
        printed(processes),
        in_arguments(),
        in_redis(repo),
        in_answers(repo),
        on_disk([repo.state, repo.models, repo.workflows, *caches], but=kept),
    )
    for name, content in everywhere:
        told += [f"{secret} is in {name}" for secret in sorted(known.found_in(content))]
    for name, content in in_environments_of_steps():
        # What a person has put into a vault may be there: it is how a step gets it.
        told += [f"{secret} is in {name}" for secret in sorted(known.found_in(content, texts=False))]
    return told
