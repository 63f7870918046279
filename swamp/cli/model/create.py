"""`swamp model create`."""

from __future__ import annotations

import click

from swamp.cli.context import Context, examples, swamp_options, typed
from swamp.definitions import new_id
from swamp.errors import NotFound, Usage
from swamp.models.catalog import save_model
from swamp.models.definition import ModelDefinition, document
from swamp.models.types import ModelType, find_type, types
from swamp.names import check_name


@click.command("create", epilog=examples("swamp model create command/shell remote-echo --arg execute.run='echo hello'"))
@click.argument("type_name", metavar="TYPE")
@click.argument("name")
@click.option(
    "--arg",
    "arguments",
    multiple=True,
    metavar="METHOD.ARGUMENT=VALUE",
    help="An argument of a method; may be repeated.",
    allow_from_autoenv=False,  # click would split its value at every space
)
@swamp_options
def command(ctx: Context, type_name: str, name: str, arguments: tuple[str, ...]) -> None:
    """Create a model of TYPE called NAME.

    It is a file, models/TYPE/NAME.yaml, to be edited at any time. A map takes one entry an option:
    --arg execute.env.HOME=/tmp
    """
    if name in types() and type_name not in types():
        raise NotFound(
            f"there is no model type '{type_name}'", hint=f"the type comes first: swamp model create {name} {type_name}"
        )
    model_type = find_type(type_name)
    methods = _methods(model_type, arguments)
    model = ModelDefinition(model_type.name, new_id(), typed(check_name, name, "model"), 1, {}, {}, methods)
    path = save_model(ctx.repo, model).relative_to(ctx.repo.root).as_posix()
    if ctx.json:
        ctx.document({**document(model), "path": path})
        return
    ctx.out(f"Created: {model.name} ({model.type})")
    ctx.out(f"Path: {path}")
    for method in model_type.methods:
        given = methods.get(method.name, {})
        missing = [argument.name for argument in method.arguments if argument.required and argument.name not in given]
        if missing:
            place = f"methods.{method.name}.arguments in {path}"
            ctx.say(f"Method {method.name} still needs {', '.join(missing)}: add it under {place}")


def _methods(model_type: ModelType, pairs: tuple[str, ...]) -> dict[str, dict[str, object]]:
    by_method: dict[str, list[str]] = {method.name: [] for method in model_type.methods}
    for pair in pairs:
        method, dot, rest = pair.partition(".")
        if not dot or "=" in method:
            raise Usage(f"'{pair}' names no method", hint=f"write --arg {model_type.methods[0].name}.{pair}")
        by_method[model_type.method(method).name].append(rest)
    return {method: model_type.read(method, rest) for method, rest in by_method.items()}
