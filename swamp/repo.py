"""Where every file of a repository lives. Nobody else joins these paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from swamp.errors import NotFound

MARKER = ".swamp.yaml"


@dataclass(frozen=True)
class Repo:
    """A Swamp repository: a directory that holds `.swamp.yaml`."""

    root: Path

    @classmethod
    def find(cls, explicit: Path | None, start: Path) -> Repo:
        """The repository at `explicit` (a directory that must be one itself), else the nearest one at or above `start`.

        Raises `NotFound`, naming `swamp repo init`.
        """
        if explicit is not None:
            root = explicit.resolve()
            if not (root / MARKER).is_file():
                raise NotFound(
                    f"{explicit} is not a Swamp repository (it holds no {MARKER})",
                    hint=f"create it with: swamp repo init {explicit}",
                    code="no_repository",
                )
            return cls(root)
        here = start.resolve()
        for directory in (here, *here.parents):
            if (directory / MARKER).is_file():
                return cls(directory)
        raise NotFound(
            f"no Swamp repository here or above {here}",
            hint="create one with: swamp repo init   (or name one with --repo-dir)",
            code="no_repository",
        )

    @property
    def marker(self) -> Path:
        return self.root / MARKER

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def workflows(self) -> Path:
        return self.root / "workflows"

    @property
    def vaults(self) -> Path:
        """Vault configuration files, one YAML file a vault: `vaults/<type>/<name>.yaml`. Safe to commit."""
        return self.root / "vaults"

    @property
    def state(self) -> Path:
        """Everything that Swamp itself writes; ignored by git."""
        return self.root / ".swamp"

    @property
    def secrets(self) -> Path:
        """Encrypted vault contents and their key files, one directory a vault (0700)."""
        return self.state / "secrets"

    @property
    def keys(self) -> Path:
        """The orchestrator's private keys and Redis passwords (directory 0700, files 0600)."""
        return self.state / "keys"

    @property
    def data(self) -> Path:
        return self.state / "data"

    @property
    def database(self) -> Path:
        return self.data / "swamp.db"

    @property
    def blobs(self) -> Path:
        return self.data / "blobs"

    @property
    def redis(self) -> Path:
        """The embedded Redis server's data directory."""
        return self.state / "redis"

    @property
    def serve_lock(self) -> Path:
        """Locked (`flock`) by the one running `swamp serve`."""
        return self.state / "serve.lock"

    @property
    def serve_info(self) -> Path:
        """Written (0600) by a running `swamp serve`: how the commands of this repository reach it."""
        return self.state / "serve.json"
