"""Which vaults a repository has: their configuration files, `vaults/<type>/<name>.yaml`."""

from __future__ import annotations

import secrets
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from swamp.clock import iso
from swamp.errors import Invalid, NotAllowed, NotFound, Usage
from swamp.files import create_atomically
from swamp.names import check_name, did_you_mean
from swamp.repo import Repo
from swamp.vaults.vault import TOKENS, TYPES, Vault, VaultInfo
from swamp.yamlfile import check_keys, dump, load

if TYPE_CHECKING:
    from swamp.vaults.local_encryption import LocalEncryption

_EXAMPLE = "swamp vault create local_encryption sandbox-vault"


def list_vaults(repo: Repo) -> list[VaultInfo]:
    """The configured vaults by name. Raises `Invalid` for a configuration file that cannot be read."""
    return sorted((_read(repo, path) for path in repo.vaults.glob("*/*.yaml")), key=lambda info: info.name)


def open_vault(repo: Repo, name: str) -> Vault:
    """The vault called `name`. Raises `NotFound`, or `Invalid` when its configuration or its key file is damaged."""
    vaults = list_vaults(repo)
    if all(info.name != name for info in vaults):
        names = [info.name for info in vaults]
        raise NotFound(
            f"there is no vault '{name}'{did_you_mean(name, names)}",
            hint=f"vaults: {', '.join(names)}" if names else f"create one with: {_EXAMPLE}",
            code="no_vault",
        )
    return _open(repo, name)


def the_only_vault(repo: Repo, explicit: str | None) -> Vault:
    """The vault called `explicit`, else the one that the repository has.

    Raises `NotFound` when it has none, `Usage` when it has several and none was named.
    """
    if explicit is not None:
        return open_vault(repo, explicit)
    names = [info.name for info in list_vaults(repo)]
    if not names:
        raise NotFound("there is no vault to keep the secret in", hint=f"create one with: {_EXAMPLE}", code="no_vault")
    if len(names) > 1:
        raise Usage(
            f"there are several vaults ({', '.join(names)})",
            hint=f"choose one, for example: --vault {names[0]}",
            code="several_vaults",
        )
    return _open(repo, names[0])


def read_for_step(repo: Repo, vault: str, key: str) -> str:
    """The secret that a step names.

    Raises as `open_vault` and `Vault.get` do, and `NotAllowed` for what no step may see.
    """
    opened = open_vault(repo, vault)
    if key.startswith(TOKENS):
        raise NotAllowed(
            f"the secret '{key}' of vault '{vault}' is an enrollment token, which no step may see",
            hint="store what the step needs under a key of its own",
        )
    return opened.get(key)


def create_vault(repo: Repo, vault_type: str, name: str, vault_id: UUID, now: datetime) -> VaultInfo:
    """Make a vault: its encryption key, then its configuration file, so that a vault that is listed works.

    Raises `NotFound` for an unknown type, `Invalid` for a name that is bad or taken; nothing is changed then.
    """
    if vault_type not in TYPES:
        turned = f"swamp vault create {name} {vault_type}" if name in TYPES else None
        raise NotFound(
            f"there is no vault type '{vault_type}'{did_you_mean(vault_type, TYPES)}",
            hint=f"the type comes first: {turned}" if turned else f"types: {', '.join(TYPES)}",
            code="no_vault_type",
        )
    check_name(name, "vault")
    info = VaultInfo(str(vault_id), name, vault_type, {}, iso(now), repo.vaults / vault_type / f"{name}.yaml")
    if info.path.exists():
        raise _taken(info)
    _open(repo, name).prepare()
    info.path.parent.mkdir(parents=True, exist_ok=True)
    text = dump(
        {"id": info.id, "name": name, "type": vault_type, "config": dict(info.config), "createdAt": info.created_at}
    )
    try:
        create_atomically(info.path, text.encode())
    except FileExistsError:
        raise _taken(info) from None
    return info


def _open(repo: Repo, name: str) -> LocalEncryption:
    # Imported here, because it loads cryptography, and most commands that look at the catalog need no secret.
    from swamp.vaults.local_encryption import LocalEncryption

    return LocalEncryption(repo, name, secrets.token_bytes)


def _taken(info: VaultInfo) -> Invalid:
    return Invalid(
        f"there already is a vault '{info.name}'",
        hint=f"store a secret in it with: swamp vault put {info.name} <key>",
        code="exists",
    )


def _read(repo: Repo, path: Path) -> VaultInfo:
    source = str(path.relative_to(repo.root))
    try:
        node = load(path.read_text(encoding="utf-8"), source)
    except UnicodeDecodeError as error:
        raise Invalid(f"{source} is not text") from error
    keys = ("id", "name", "type", "config", "createdAt")
    entries = check_keys(node, keys, "the vault", required=("id", "name", "type"))
    texts: dict[str, str] = {
        key: entries[key].text(f"'{key}'") for key in ("id", "name", "type", "createdAt") if key in entries
    }
    for key, expected in (("name", path.stem), ("type", path.parent.name)):
        if texts[key] != expected:
            raise entries[key].fail(
                f"'{key}' is '{texts[key]}', but the file's place says '{expected}'",
                f"write {key}: {expected}, or move the file to vaults/<type>/<name>.yaml",
            )
    if texts["type"] not in TYPES:
        raise entries["type"].fail(
            f"unknown vault type '{texts['type']}'{did_you_mean(texts['type'], TYPES)}", f"types: {', '.join(TYPES)}"
        )
    check_name(texts["name"], "vault")
    config = entries["config"].plain_entries("'config'") if "config" in entries else {}
    return VaultInfo(texts["id"], texts["name"], texts["type"], config, texts.get("createdAt", ""), path)
