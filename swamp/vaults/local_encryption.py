"""The vault type `local_encryption`: sealed files beside the repository's data, and their encryption key in a file.

    .swamp/secrets/<vault>/                0700
        key                                0600   the encryption key, 64 hex digits
        <hash of the secret's key>.secret  0600   see `swamp.vaults.seal`

A file is named after a hash because keys differ in case and may be longer or stranger than a file's name may be. The
encryption key does not travel with the repository; a clone of it has the vault, empty.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from swamp.errors import Invalid, NotFound
from swamp.files import create_atomically, make_private_dir, remove_durably, write_atomically
from swamp.names import did_you_mean
from swamp.repo import Repo
from swamp.vaults.seal import KEY_BYTES, NONCE_BYTES, Refused, key_of, seal, unseal
from swamp.vaults.vault import check_key


class LocalEncryption:
    """See `swamp.vaults.vault.Vault` for what the methods promise."""

    type = "local_encryption"

    def __init__(self, repo: Repo, name: str, random: Callable[[int], bytes]) -> None:
        """`random(n)` gives n bytes that nobody can guess. Nothing is read or written yet."""
        self.name = name
        self._repo = repo
        self._directory = repo.secrets / name
        self._random = random

    def prepare(self) -> bytes:
        """The encryption key; made and kept if there is none yet.

        Raises `Invalid` when the key file is damaged, open to others, or gone while secrets are left.
        """
        for private in (self._repo.state, self._repo.secrets, self._directory):
            make_private_dir(private)
        # When another process is faster, its key is the vault's.
        if not self._key_file.exists() and not self._is_locked_out():
            with suppress(FileExistsError):
                create_atomically(self._key_file, self._random(KEY_BYTES).hex().encode() + b"\n", 0o600)
        return self._read_key()

    def get(self, key: str) -> str:
        check_key(key)
        try:
            content = self._file(key).read_bytes()
        except FileNotFoundError:
            raise self._missing(key) from None
        try:
            return unseal(self._read_key(), key, content)
        except Refused:
            raise Invalid(
                f"the secret '{key}' of vault '{self.name}' cannot be decrypted: its file or the key file was changed",
                hint=f"restore them from a backup, or store it again: swamp vault put {self.name} {key}",
                code="undecryptable",
            ) from None

    def put(self, key: str, value: str) -> None:
        check_key(key)
        encryption_key = self.prepare()
        try:
            content = seal(encryption_key, key, value, self._random(NONCE_BYTES))
        except UnicodeEncodeError:
            # Not chained: the original error carries the value.
            raise Invalid(
                f"the value for '{key}' is not UTF-8 text", hint="encode it, for example with base64"
            ) from None
        write_atomically(self._file(key), content, 0o600)

    def delete(self, key: str) -> None:
        check_key(key)
        try:
            remove_durably(self._file(key))
        except FileNotFoundError:
            raise self._missing(key) from None

    def keys(self) -> list[str]:
        found = []
        for file in self._directory.glob("*.secret"):
            try:
                found.append(key_of(file.read_bytes()))
            except FileNotFoundError:
                continue  # deleted meanwhile
            except Refused:
                raise Invalid(
                    f"{file} is damaged", hint="restore it from a backup, or remove it", code="undecryptable"
                ) from None
        return sorted(found)

    def holds(self, key: str) -> bool:
        return self._file(check_key(key)).is_file()

    def _file(self, key: str) -> Path:
        return self._directory / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.secret"

    def _missing(self, key: str) -> NotFound:
        return NotFound(
            f"vault '{self.name}' has no secret '{key}'{did_you_mean(key, self.keys())}",
            hint=f"see what it has: swamp vault list-keys {self.name}",
            code="no_secret",
        )

    @property
    def _key_file(self) -> Path:
        return self._directory / "key"

    def _is_locked_out(self) -> bool:
        """Whether a new key would hide that the old one is lost."""
        return any(self._directory.glob("*.secret"))

    def _read_key(self) -> bytes:
        file = self._key_file
        try:
            text = file.read_bytes()
            others = file.stat().st_mode & 0o077
        except FileNotFoundError:
            raise Invalid(
                f"the key file of vault '{self.name}' is gone ({file}), so its secrets cannot be read",
                hint=f"restore it from a backup, or give the secrets up: rm {self._directory}/*.secret",
                code="no_key_file",
            ) from None
        if others:
            raise Invalid(
                f"the key file of vault '{self.name}' is open to other users", hint=f"close it with: chmod 600 {file}"
            )
        try:
            key = bytes.fromhex(text.decode("ascii"))
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise Invalid(f"the key file of vault '{self.name}' is damaged ({file})", hint="restore it from a backup")
        return key
