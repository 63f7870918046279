"""`swamp model type describe`."""

from __future__ import annotations

from collections.abc import Iterable

import click

from swamp.cli.context import Context, examples, swamp_options
from swamp.models.argument import Argument
from swamp.models.types import Method, ModelType, find_type


@click.command("describe", epilog=examples("swamp model type describe command/shell"))
@click.argument("type_name", metavar="TYPE")
@swamp_options
def command(ctx: Context, type_name: str) -> None:
    """Show the methods of a model type, what they take and what they produce."""
    model_type = find_type(type_name)
    if ctx.json:
        ctx.document(_document(model_type))
        return
    ctx.out(f"{model_type.name}  {model_type.version}")
    ctx.out(model_type.description)
    if model_type.global_arguments:
        ctx.out("\nGlobal arguments")
        _show(ctx, _argument_rows(model_type.global_arguments))
    for method in model_type.methods:
        ctx.out(f"\nMethod {method.name}: {method.description}")
        ctx.out("  Arguments")
        _show(ctx, _argument_rows(method.arguments))
        ctx.out("  Outputs")
        _show(ctx, ((one.name, f"{one.data_type}, {one.content_type}", one.description) for one in method.outputs))


def _argument_rows(arguments: Iterable[Argument]) -> Iterable[tuple[str, str, str]]:
    return ((one.name, one.kind + (", required" if one.required else ""), one.description) for one in arguments)


def _show(ctx: Context, rows: Iterable[tuple[str, str, str]]) -> None:
    lines = list(rows)
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    for name, kind, description in lines:
        ctx.out(f"    {name.ljust(widths[0])}  {kind.ljust(widths[1])}  {description}")


def _document(model_type: ModelType) -> dict[str, object]:
    return {
        "name": model_type.name,
        "version": model_type.version,
        "description": model_type.description,
        "globalArguments": [_argument(one) for one in model_type.global_arguments],
        "methods": [_method(one) for one in model_type.methods],
    }


def _method(method: Method) -> dict[str, object]:
    outputs = [
        {"name": one.name, "dataType": one.data_type, "contentType": one.content_type, "description": one.description}
        for one in method.outputs
    ]
    arguments = [_argument(one) for one in method.arguments]
    return {"name": method.name, "description": method.description, "arguments": arguments, "outputs": outputs}


def _argument(argument: Argument) -> dict[str, object]:
    return {
        "name": argument.name,
        "kind": argument.kind,
        "required": argument.required,
        "description": argument.description,
        **({"minimum": argument.minimum} if argument.minimum is not None else {}),
    }
