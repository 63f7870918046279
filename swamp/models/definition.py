"""A model: a named, configured instance of a type; how its YAML is read and written, and what a call of it is. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from swamp import yamlfile
from swamp.definitions import Check, check_id, check_text, refuse_expressions
from swamp.errors import Invalid, SwampError
from swamp.expressions.template import check_expressions, references
from swamp.models.invocation import Invocation
from swamp.models.resolve import ReadSecret, secrets_problem
from swamp.models.types import find_type
from swamp.names import check_name, check_type_name
from swamp.yamlnode import Node, check_keys

KEYS = ("type", "id", "name", "version", "tags", "globalArguments", "methods")


@dataclass(frozen=True)
class ModelDefinition:
    type: str
    id: str
    name: str
    version: int
    tags: Mapping[str, str]  #: copied to everything that the model produces
    global_arguments: Mapping[str, object]
    methods: Mapping[str, Mapping[str, object]]  #: method name to its arguments
    path: str = field(default="", compare=False)  #: where it was read from, as errors name it


def parse_model(text: str, source: str) -> ModelDefinition:
    """The model that the YAML `text` describes; `source` names it in errors.

    Its arguments are not compared with its type: a model may be stored before it is complete (`checks` does that).
    Raises `Invalid` with source and line.
    """
    root = yamlfile.load(text, source)
    entries = check_keys(root, KEYS, "the model", required=("type", "id", "name"))
    refuse_expressions(entries, but="methods")
    version = entries.get("version")
    tags = entries.get("tags")
    global_arguments = entries.get("globalArguments")
    methods = entries.get("methods")
    return ModelDefinition(
        type=check_text(entries["type"], "'type' of the model", check_type_name),
        id=check_id(entries["id"], "the model"),
        name=check_text(entries["name"], "'name' of the model", lambda name: check_name(name, "model")),
        version=version.whole("'version' of the model", minimum=1) if version else 1,
        tags=tags.texts("'tags' of the model") if tags else {},
        global_arguments=global_arguments.plain_entries("'globalArguments' of the model") if global_arguments else {},
        methods=_methods(methods) if methods else {},
        path=source,
    )


def _methods(node: Node) -> dict[str, dict[str, object]]:
    methods = {}
    for name, method in node.entries("'methods' of the model").items():
        entries = check_keys(method, ("arguments",), f"method '{name}'")
        arguments = entries.get("arguments")
        if arguments is not None:
            check_expressions(arguments)
        methods[name] = arguments.plain_entries(f"'arguments' of method '{name}'") if arguments else {}
    return methods


def document(model: ModelDefinition) -> dict[str, object]:
    """The model as its file holds it; JSON values only. `parse_model` reads it back."""
    return {
        "type": model.type,
        "id": model.id,
        "name": model.name,
        "version": model.version,
        "tags": dict(model.tags),
        "globalArguments": dict(model.global_arguments),
        "methods": {name: {"arguments": dict(arguments)} for name, arguments in model.methods.items()},
    }


def invocation(model: ModelDefinition, method: str, inputs: Mapping[str, object]) -> Invocation:
    """The call of a method with the model's own arguments and `inputs` laid over them; maps are laid over key by key.

    Raises `NotFound` for an unknown type or method, `Invalid` listing what is wrong with the arguments.
    """
    model_type = find_type(model.type)
    try:
        arguments = model_type.check(method, _laid_over(model.methods.get(method, {}), inputs))
        model_type.check_global(model.global_arguments)
    except Invalid as error:
        hint = f"look at {model.path} and swamp model type describe {model.type}" if model.path else error.hint
        raise Invalid(f"model '{model.name}': {error.message}", hint=hint) from error
    return Invocation(model.id, model.name, model.type, method, arguments, dict(model.tags))


def checks(model: ModelDefinition, secret: ReadSecret) -> Iterator[Check]:
    """What must hold between a model, its type and the vaults. What an argument lacks, the inputs of a step may still
    bring."""
    try:
        model_type = find_type(model.type)
    except SwampError as error:
        yield Check("Known type", error)
        return
    yield Check("Known type")
    yield _check("Global arguments", model_type.check_global, model.global_arguments)
    for method, arguments in model.methods.items():
        yield _check(f"Arguments of {method}", partial(model_type.check, method, complete=False), arguments)
        for argument, value in arguments.items():
            if named := list(dict.fromkeys(references(value))):
                yield Check(f"Secrets of {method} ({argument})", secrets_problem(named, secret))


def _check(
    name: str, check: Callable[[Mapping[str, object]], Mapping[str, object]], arguments: Mapping[str, object]
) -> Check:
    try:
        check(arguments)
    except SwampError as error:
        return Check(name, error)
    return Check(name)


def _laid_over(lower: Mapping[str, object], upper: Mapping[str, object]) -> dict[str, object]:
    result = dict(lower)
    for key, value in upper.items():
        below = result.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            result[key] = _laid_over(below, value)
        else:
            result[key] = value
    return result
