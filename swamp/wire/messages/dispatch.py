"""A dispatch, and its result."""

from __future__ import annotations

from dataclasses import dataclass

from swamp.data.record import Blob, Output
from swamp.models.invocation import Invocation, Outcome
from swamp.wire.codec import Malformed, pack
from swamp.wire.messages.fields import as_map, checksum, moment, take, text_map, text_or_null, texts

#: Before a sealed dispatch stands the generation of the target's key that opens it, big-endian.
GENERATION_BYTES = 4
MOST_GENERATIONS = (1 << 8 * GENERATION_BYTES) - 1


def result_place(dispatch: str) -> bytes:
    """What a result is sealed for (the authenticated data)."""
    return b"result " + dispatch.encode()


def dispatch_place(dispatch: str) -> bytes:
    """What a dispatch is sealed for (the authenticated data)."""
    return b"dispatch " + dispatch.encode()


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One attempt to execute one step, as the worker opens it."""

    id: str
    target: str
    attempt: int
    incarnation: int
    expires_at: str  #: by the orchestrator's clock; not begun any more from this moment on
    run_id: str
    workflow: str
    job: str
    step: str
    grant: bool  #: it may begin only with the orchestrator's grant, because several machines serve the target
    invocation: Invocation


def pack_dispatch(dispatch: Dispatch) -> bytes:
    call = dispatch.invocation
    return pack(
        {
            "dispatch": dispatch.id,
            "target": dispatch.target,
            "attempt": dispatch.attempt,
            "incarnation": dispatch.incarnation,
            "expiresAt": dispatch.expires_at,
            "run": dispatch.run_id,
            "workflow": dispatch.workflow,
            "job": dispatch.job,
            "step": dispatch.step,
            "grant": dispatch.grant,
            "modelId": call.model_id,
            "model": call.model_name,
            "modelType": call.model_type,
            "method": call.method,
            "arguments": dict(call.arguments),
            "secrets": call.secrets,
            "tags": dict(call.tags),
        }
    )


def unpack_dispatch(data: bytes) -> Dispatch:
    """Raises `Malformed`."""
    message = as_map(data)
    return Dispatch(
        id=take(message, "dispatch", str),
        target=take(message, "target", str),
        attempt=take(message, "attempt", int),
        incarnation=take(message, "incarnation", int),
        expires_at=moment(message, "expiresAt"),
        run_id=take(message, "run", str),
        workflow=take(message, "workflow", str),
        job=take(message, "job", str),
        step=take(message, "step", str),
        grant=take(message, "grant", bool),
        invocation=Invocation(
            model_id=take(message, "modelId", str),
            model_name=take(message, "model", str),
            model_type=take(message, "modelType", str),
            method=take(message, "method", str),
            arguments=take(message, "arguments", dict),
            tags=text_map(message, "tags"),
            secrets=texts(message, "secrets"),
        ),
    )


def pack_result(outcome: Outcome) -> bytes:
    outputs = []
    for output in outcome.outputs:
        content: object = output.content
        if isinstance(content, Blob):
            content = {"checksum": content.checksum, "size": content.size}
        outputs.append(
            {
                "spec": output.spec_name,
                "name": output.name,
                "type": output.data_type,
                "contentType": output.content_type,
                "content": content,
                "tags": dict(output.tags),
            }
        )
    return pack(
        {
            "status": outcome.status,
            "error": outcome.error,
            "startedAt": outcome.started_at,
            "endedAt": outcome.ended_at,
            "durationMs": outcome.duration_ms,
            "outputs": outputs,
        }
    )


def unpack_result(data: bytes) -> Outcome:
    """Raises `Malformed`."""
    message = as_map(data)
    status = take(message, "status", str)
    if status not in ("succeeded", "failed", "canceled"):
        raise Malformed(f"'{status}' is no way for a step to end")
    outputs = []
    for item in take(message, "outputs", list):
        if not isinstance(item, dict):
            raise Malformed("an output of a result is no map")
        data_type = take(item, "type", str)
        if data_type not in ("resource", "file"):
            raise Malformed(f"'{data_type}' is no type of data")
        content = item.get("content")
        if isinstance(content, dict):
            content = Blob(checksum(content), take(content, "size", int))
        elif not isinstance(content, bytes):
            raise Malformed("an output of a result has no content")
        outputs.append(
            Output(
                spec_name=take(item, "spec", str),
                name=take(item, "name", str),
                data_type=data_type,
                content_type=take(item, "contentType", str),
                content=content,
                tags=text_map(item, "tags"),
            )
        )
    return Outcome(
        status=status,
        error=text_or_null(message, "error"),
        outputs=tuple(outputs),
        started_at=moment(message, "startedAt"),
        ended_at=moment(message, "endedAt"),
        duration_ms=take(message, "durationMs", int),
    )
