"""Base images, made of Debian's packages in place of the published ones, which only a registry has."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.compose.engine import Engine, run

BASE, REDIS = "swamp-test/base:bookworm", "swamp-test/redis:bookworm"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_INSIDE = "ca-certificates,python3,python3-venv,redis-server"


def make(engine: Engine) -> None:
    """Both images. SWAMP_COMPOSE_CACHE names a directory that keeps the packed system between runs."""
    cache = Path(os.environ.get("SWAMP_COMPOSE_CACHE") or engine.directory)
    packed = cache / "bookworm.tar"
    if not packed.exists():
        root = engine.directory / "base"
        run("debootstrap", "--variant=minbase", f"--include={_INSIDE}", "bookworm", root, _mirror())
        for unneeded in (root / "var/cache/apt/archives").glob("*.deb"):
            unneeded.unlink()
        # As this machine reaches the package index, so do the builds.
        shutil.copy(_CERTIFICATES, root / "etc/ssl/certs/ca-certificates.crt")
        index = subprocess.run(
            ["pip3", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
        )
        (root / "etc/pip.conf").write_text(
            f"[global]\ncert = {_CERTIFICATES}\n"
            + (f"index-url = {index.stdout.strip()}\n" if index.returncode == 0 else "")
        )
        run("tar", "-C", root, "-cf", f"{packed}.part", ".")
        Path(f"{packed}.part").rename(packed)
        shutil.rmtree(root)
    engine.docker("import", packed, BASE)
    engine.docker(
        "build", "--quiet", "--network=host", "--tag", REDIS, "-",
        input=f"FROM {BASE}\nRUN install --directory --owner 999 --group 999 /data\n".encode(),
    )  # fmt: skip


def _mirror() -> str:
    """Where this machine gets its own packages of the same Debian."""
    told = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Codename: bookworm", "Origin: Debian")
    return told.split()[0]
