"""Beyond loopback: refused in the clear, and all that TLS is for, with real certificates."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from swamp.broker.acl import AclUser, orchestrator_rules, password_hash
from swamp.broker.embedded import EmbeddedRedis
from swamp.errors import NotAllowed
from swamp.orchestrator.client import Client
from tests.certificates import Certificates, behind_tls, sign
from tests.e2e.stage import Stage
from tests.processes import RunningSwamp
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return sign(tmp_path_factory.mktemp("certificates"), "localhost")


def serving(stage: Stage, address: str, *arguments: str | Path) -> RunningSwamp:
    orchestrator = stage.start("serve", "--port", str(stage.port), *arguments)
    orchestrator.wait_for_line(rf"listening on {address}:{stage.port} ")
    return orchestrator


def connecting(stage: Stage, token: str, url: str, *arguments: str | Path, cache: str = "cache") -> RunningSwamp:
    return stage.start("worker", "connect", url, "--token", token, "--cache-dir", stage.scratch / cache, *arguments)


def test_other_machines_are_not_let_in_without_tls(stage: Stage):
    done = stage.swamp("serve", "--host", "0.0.0.0", "--port", str(stage.port))
    assert done.code == 4
    assert "Error: '0.0.0.0' can be reached from other machines" in done.stderr
    assert "--cert-file <file> --key-file <file>" in done.stderr
    assert "--insecure-bind" in done.stderr
    stage.nothing_serves()


def test_who_accepts_what_it_costs_listens_in_the_clear(stage: Stage):
    token = stage.token()
    orchestrator = serving(stage, r"ws://0\.0\.0\.0", "--host", "0.0.0.0", "--insecure-bind")
    assert "listening on '0.0.0.0' without TLS: " in orchestrator.output
    assert json.loads((stage.root / ".swamp/serve.json").read_text())["url"] == f"http://127.0.0.1:{stage.port}"
    stage.worker(token)
    stage.task("hello", "echo hello")
    stage.run("hello")


def test_with_a_certificate_workers_and_commands_speak_tls(stage: Stage, files: Certificates):
    token = stage.token()
    orchestrator = serving(
        stage, r"wss://0\.0\.0\.0", "--host", "0.0.0.0", "--cert-file", files.certificate, "--key-file", files.key
    )
    assert "without TLS" not in orchestrator.output
    assert stage.workers() == {}

    url = f"wss://localhost:{stage.port}"
    stranger = connecting(stage, token, url, cache="stranger")
    stranger.wait_for_line(r"cannot join at .*certificate verify failed")
    misnamed = connecting(stage, token, f"wss://127.0.0.1:{stage.port}", "--ca-cert", files.ca, cache="misnamed")
    misnamed.wait_for_line(r"cannot join at .*certificate verify failed")
    plain = connecting(stage, token, f"ws://localhost:{stage.port}", cache="plain")
    plain.wait_for_line(r"cannot join at ")
    assert stranger.running
    assert misnamed.running

    worker = connecting(stage, token, url, "--ca-cert", files.ca)
    worker.wait_for_line("enrolled as node and waiting for work")
    stage.task("hello", "echo hello")
    assert "│ hello" in stage.run("hello").stdout
    assert stage.workers() == {"node": "idle"}


def test_the_repositorys_commands_speak_to_no_other_certificate(stage: Stage, files: Certificates, tmp_path: Path):
    serving(stage, r"wss://127\.0\.0\.1", "--cert-file", files.certificate, "--key-file", files.key)
    info = stage.root / ".swamp/serve.json"
    facts = json.loads(info.read_text())
    assert facts["certificate"] == _fingerprint(files.certificate)

    other = _fingerprint(sign(tmp_path / "other", "localhost").certificate)
    with pytest.raises(NotAllowed, match="shows another certificate"):
        Client(facts["url"], facts["secret"], other).workers()
    info.write_text(json.dumps({**facts, "certificate": other}))
    stage.task("hello", "echo hello")
    stage.token()
    assert "no orchestrator" in stage.run("hello", code=5).stderr, "what listens there is taken for another program"


def _fingerprint(certificate: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--cert-file", "nowhere.pem"], 3, "there is no file nowhere.pem"),
        (["--key-file", "server.key"], 2, "--key-file needs --cert-file"),
        (["--cert-file", "server.pem"], 1, "cannot be used for TLS"),
        (["--cert-file", "server.pem", "--key-file", "other.key"], 1, "cannot be used for TLS"),
        (["--cert-file", "server.pem", "--key-file", "locked.key"], 1, "the key in locked.key is encrypted"),
        (["--cert-file", "junk", "--key-file", "server.key"], 1, "cannot be used for TLS"),
    ],
)
def test_files_that_are_none_are_named(
    stage: Stage, files: Certificates, tmp_path: Path, arguments: list[str], code: int, says: str
):
    shutil.copy(files.certificate, stage.root / "server.pem")
    shutil.copy(files.key, stage.root / "server.key")
    shutil.copy(sign(tmp_path / "other", "localhost").key, stage.root / "other.key")
    (stage.root / "junk").write_text("no PEM\n")
    encrypt = ["openssl", "pkey", "-in", "server.key", "-aes256", "-passout", "pass:hushhush", "-out", "locked.key"]
    if shutil.which("openssl"):
        subprocess.run(encrypt, cwd=stage.root, check=True)
    elif "locked.key" in arguments:
        pytest.skip("no openssl to encrypt a key with")
    done = stage.swamp("serve", "--port", str(stage.port), *arguments, timeout=15)
    assert done.code == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    stage.nothing_serves()


def test_a_ca_that_is_none_is_named_before_the_first_attempt(stage: Stage):
    (stage.scratch / "junk").write_text("no PEM\n")
    for file, code, says in (("junk", 1, "holds no certificate of a CA"), ("nowhere", 3, "there is no file")):
        worker = connecting(
            stage, "node." + "0" * 64, "wss://localhost:1", "--ca-cert", stage.scratch / file, cache=f"{code}"
        )
        assert worker.wait_for_end() == code
        assert says in worker.output


@pytest.fixture
def redis_behind_tls(stage: Stage, files: Certificates) -> Iterator[str]:
    """The URL of a Redis server that is reached by TLS only."""
    password = secrets.token_hex(16)
    admin = AclUser("admin", tuple(orchestrator_rules(password_hash(password))))
    with (
        EmbeddedRedis.start(stage.scratch / "redis", stage.runtime, [admin]) as server,
        behind_tls(server.port, files) as port,
    ):
        yield f"rediss://admin:{password}@localhost:{port}/0"


def test_orchestrator_and_workers_use_a_redis_with_a_private_ca(
    stage: Stage, files: Certificates, redis_behind_tls: str
):
    done = stage.swamp("serve", "--port", str(stage.port), "--redis-url", redis_behind_tls)
    assert done.code == 5
    assert "certificate verify failed" in done.stderr

    token = stage.token()
    stage.serve("--redis-url", redis_behind_tls, "--redis-ca-cert", str(files.ca))
    stranger = connecting(stage, token, stage.url)
    stranger.wait_for_line("certificate verify failed")
    stranger.stop()
    stage.worker(token, "cache", "--ca-cert", str(files.ca))
    stage.task("hello", "echo hello")
    stage.run("hello")


def test_workers_are_told_the_address_that_is_theirs(stage: Stage, files: Certificates, redis_behind_tls: str):
    with behind_tls(1, files) as dead:
        own = f"rediss://localhost:{dead}/0"
        token = stage.token()
        stage.serve("--redis-url", redis_behind_tls, "--redis-ca-cert", str(files.ca), "--worker-redis-url", own)
        worker = connecting(stage, token, stage.url, "--ca-cert", files.ca)
        wait_until(lambda: f"localhost:{dead}" in worker.output or "Redis:" in worker.output, "the worker to try it")
        assert "enrolled" not in worker.output


def test_a_redis_on_another_machine_is_not_used_in_the_clear(stage: Stage):
    done = stage.swamp("serve", "--port", str(stage.port), "--redis-url", "redis://me:hushhush@192.0.2.1:6379/0")
    assert done.code == 4
    assert "Redis at redis://192.0.2.1:6379/0 is on another machine" in done.stderr
    assert "--insecure-redis" in done.stderr
    assert "hushhush" not in done.stderr
    stage.nothing_serves()
