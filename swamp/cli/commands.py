"""Every command on one page: the words a person types, the module that does it, one line of help.

A module is imported only when its command is chosen, so that `--help`, `--version` and errors come at once. Each
module holds `command`, a `click.Command`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from swamp.names import nearest

Words = tuple[str, ...]


class Entry(NamedTuple):
    module: str
    help: str


class Group(NamedTuple):
    help: str
    examples: Sequence[str]


GROUPS: Mapping[Words, Group] = {
    (): Group(
        "Run the steps of a workflow on other machines and keep what they produced.",
        [
            "swamp repo init",
            "swamp workflow run remote-demo",
            "swamp worker token create --help     # every command explains itself",
        ],
    ),
    ("repo",): Group("Create a repository.", ["swamp repo init"]),
    ("vault",): Group("Keep secrets.", ["swamp vault create local_encryption sandbox-vault"]),
    ("worker",): Group("Let machines join, and see them.", ["swamp worker list"]),
    ("worker", "token"): Group(
        "Mint, list, rotate and revoke enrollment tokens.", ["swamp worker token create build-node --duration 1h"]
    ),
    ("model",): Group("Describe what can be done, and do it here.", ["swamp model validate"]),
    ("model", "type"): Group("See which model types exist.", ["swamp model type describe command/shell"]),
    ("model", "method"): Group("Run one method of a model.", ["swamp model method run remote-echo execute"]),
    ("workflow",): Group("Describe in what order it is done, and run it.", ["swamp workflow run remote-demo"]),
    ("workflow", "history"): Group("Look at past runs.", ["swamp workflow history search"]),
    ("data",): Group("Ask for what the steps produced.", ["swamp data query 'modelName == \"remote-echo\"'"]),
    ("access",): Group("Let people on other machines hand runs to the orchestrator.", ["swamp access token list"]),
    ("access", "token"): Group(
        "Mint, list and revoke client tokens.", ["swamp access token create laptop --duration 30d"]
    ),
    ("redis",): Group("Connect monitoring tools.", ["rq info -u $(swamp redis url)"]),
}

COMMANDS: Mapping[Words, Entry] = {
    ("init",): Entry("swamp.cli.repo.init", "Create a repository (the same as: swamp repo init)."),
    ("repo", "init"): Entry("swamp.cli.repo.init", "Create a repository."),
    ("vault", "create"): Entry("swamp.cli.vault.create", "Create a vault."),
    ("vault", "put"): Entry("swamp.cli.vault.put", "Store a secret."),
    ("vault", "read-secret"): Entry("swamp.cli.vault.read_secret", "Print a secret."),
    ("vault", "list-keys"): Entry("swamp.cli.vault.list_keys", "List the keys of a vault, without the values."),
    ("vault", "delete"): Entry("swamp.cli.vault.delete", "Delete a secret."),
    ("worker", "token", "create"): Entry("swamp.cli.worker.token_create", "Mint an enrollment token."),
    ("worker", "token", "list"): Entry("swamp.cli.worker.token_list", "List the enrollment tokens."),
    ("worker", "token", "rotate"): Entry("swamp.cli.worker.token_rotate", "Give a token a new secret and more time."),
    ("worker", "token", "revoke"): Entry("swamp.cli.worker.token_revoke", "Revoke a token and cut its workers off."),
    ("worker", "connect"): Entry("swamp.cli.worker.connect", "Join this machine as a worker."),
    ("worker", "list"): Entry("swamp.cli.worker.list", "List the workers."),
    ("worker", "drain"): Entry("swamp.cli.worker.drain", "Let a worker finish what it runs, and take no more."),
    ("worker", "resume"): Entry("swamp.cli.worker.resume", "Let a drained worker take steps again."),
    ("worker", "queue"): Entry("swamp.cli.worker.queue", "List what waits for a worker, and why."),
    ("worker", "verify"): Entry("swamp.cli.worker.verify", "Send a probe to the workers and back."),
    ("serve",): Entry("swamp.cli.serve", "Run the orchestrator of this repository."),
    ("model", "create"): Entry("swamp.cli.model.create", "Create a model."),
    ("model", "get"): Entry("swamp.cli.model.get", "Show a model."),
    ("model", "delete"): Entry("swamp.cli.model.delete", "Delete a model."),
    ("model", "validate"): Entry("swamp.cli.model.validate", "Check one model, or all."),
    ("model", "type", "search"): Entry("swamp.cli.model.type_search", "List the model types."),
    ("model", "type", "describe"): Entry(
        "swamp.cli.model.type_describe", "Show a type's methods, arguments and outputs."
    ),
    ("model", "method", "run"): Entry("swamp.cli.model.method_run", "Run a method of a model here."),
    ("workflow", "create"): Entry("swamp.cli.workflow.create", "Create a workflow."),
    ("workflow", "get"): Entry("swamp.cli.workflow.get", "Show a workflow."),
    ("workflow", "delete"): Entry("swamp.cli.workflow.delete", "Delete a workflow."),
    ("workflow", "validate"): Entry("swamp.cli.workflow.validate", "Check one workflow, or all."),
    ("workflow", "run"): Entry("swamp.cli.workflow.run", "Run a workflow and watch it."),
    ("workflow", "logs"): Entry("swamp.cli.workflow.logs", "Show what the steps of a run print, to its end with -f."),
    ("workflow", "cancel"): Entry("swamp.cli.workflow.cancel", "End a run."),
    ("workflow", "history", "search"): Entry("swamp.cli.workflow.history_search", "List past runs, newest first."),
    ("workflow", "history", "get"): Entry("swamp.cli.workflow.history_get", "Show a run, its jobs and steps."),
    ("workflow", "history", "logs"): Entry("swamp.cli.workflow.history_logs", "Show what the steps of a run printed."),
    ("data", "query"): Entry("swamp.cli.data.query", "Find data with a CEL expression."),
    ("data", "get"): Entry("swamp.cli.data.get", "Show one data item."),
    ("data", "list"): Entry("swamp.cli.data.list", "List the data items."),
    ("data", "versions"): Entry("swamp.cli.data.versions", "List the versions of a data item."),
    ("access", "token", "create"): Entry("swamp.cli.access.token_create", "Mint a client token."),
    ("access", "token", "list"): Entry("swamp.cli.access.token_list", "List the client tokens."),
    ("access", "token", "revoke"): Entry("swamp.cli.access.token_revoke", "Revoke a client token."),
    ("redis", "url"): Entry("swamp.cli.redis.url", "Print the URL for monitoring tools."),
}


def children(path: Words) -> dict[str, str]:
    """The words that may follow `path`, in the table's order, with their help."""
    found: dict[str, str] = {}
    for words, entry in COMMANDS.items():
        if words[: len(path)] == path and len(words) > len(path):
            name = words[len(path)]
            found.setdefault(name, entry.help if len(words) == len(path) + 1 else GROUPS[(*path, name)].help)
    return found


def below(path: Words) -> dict[str, str]:
    """Every command under `path` by the words that follow `path`, with its help."""
    return {" ".join(words[len(path) :]): entry.help for words, entry in COMMANDS.items() if words[: len(path)] == path}


def unknown_command_hint(path: Words, typed: Sequence[str]) -> str:
    """What to type instead, when `typed[0]` does not follow `path`."""
    here = " ".join(("swamp", *path))
    listing = f"commands of '{here}': {', '.join(children(path))}"
    if typed[0] == "help":
        return f"type: {here} --help\n{listing}"
    if typed[0] == "version":
        return f"type: swamp --version\n{listing}"
    meant = _near(path, typed) or _elsewhere(path, typed)
    return f"did you mean: {' '.join(('swamp', *meant))}\n{listing}" if meant else listing


def _near(path: Words, typed: Sequence[str]) -> Words:
    """The command below `path` that is spelt most like the typed words, as far as they are command words."""
    if not typed:
        return path
    near = nearest(typed[0], children(path))
    return (_near((*path, near), typed[1:]) or (*path, near)) if near else ()


def _elsewhere(path: Words, typed: Sequence[str]) -> Words:
    """The command or group below `path` or, typed at the top, below any other, that ends in the typed words.

    `token list` is under `worker`; `worker create` lacks a word; but `vault get` is not meant to be `model get`.
    """
    every = {words[:length]: None for words in COMMANDS for length in range(1, len(words) + 1)}
    inside = [words for words in every if words[: len(path)] == path]
    for length in (2, 1):
        for words in inside:
            if words[-length:] == tuple(typed[:length]):
                return words
    return ()


def words_typed(arguments: Sequence[str]) -> Words:
    """The words at the beginning of a command line that name a command or a group."""
    words: Words = ()
    for argument in arguments:
        if argument.startswith("-"):
            continue
        if (*words, argument) not in COMMANDS and (*words, argument) not in GROUPS:
            break
        words = (*words, argument)
    return words
