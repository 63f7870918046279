"""A dispatch, and its result."""

from __future__ import annotations

from swamp.data.record import Blob, Output
from swamp.models.invocation import Invocation, Outcome
from swamp.values import value
from swamp.wire.codec import Malformed, pack
from swamp.wire.messages.fields import Fields, as_map, checksum, moment, take, text_map, text_or_null, texts

#: Before a sealed dispatch stands the generation of the target's key that opens it, big-endian.
GENERATION_BYTES = 4
MOST_GENERATIONS = (1 << 8 * GENERATION_BYTES) - 1


_STEP = Fields(
    dispatch=str, target=str, attempt=int, incarnation=int, run=str, workflow=str, job=str, step=str, grant=bool
)
_CALL = Fields(modelId=str, model=str, modelType=str, method=str, arguments=dict)
_RESULT = Fields(status=str, outputs=list, durationMs=int)
_OUTPUT = Fields(spec=str, name=str, type=str, contentType=str)


def result_place(dispatch: str) -> bytes:
    """What a result is sealed for (the authenticated data)."""
    return b"result " + dispatch.encode()


def dispatch_place(dispatch: str) -> bytes:
    """What a dispatch is sealed for (the authenticated data)."""
    return b"dispatch " + dispatch.encode()


@value
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
    identity, target, attempt, incarnation, run_id, workflow, job, step, grant = _STEP.of(message)
    model_id, model_name, model_type, method, arguments = _CALL.of(message)
    tags, secrets = text_map(message, "tags"), texts(message, "secrets")
    call = Invocation(model_id, model_name, model_type, method, arguments, tags, secrets)
    expires_at = moment(message, "expiresAt")
    return Dispatch(identity, target, attempt, incarnation, expires_at, run_id, workflow, job, step, grant, call)


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
    status, items, duration_ms = _RESULT.of(message)
    if status not in ("succeeded", "failed", "canceled"):
        raise Malformed(f"'{status}' is no way for a step to end")
    return Outcome(
        status,
        text_or_null(message, "error"),
        tuple(_output(item) for item in items),
        moment(message, "startedAt"),
        moment(message, "endedAt"),
        duration_ms,
    )


def _output(item: object) -> Output:
    if not isinstance(item, dict):
        raise Malformed("an output of a result is no map")
    spec_name, name, data_type, content_type = _OUTPUT.of(item)
    if data_type not in ("resource", "file"):
        raise Malformed(f"'{data_type}' is no type of data")
    content = item.get("content")
    if isinstance(content, dict):
        content = Blob(checksum(content), take(content, "size", int))
    elif not isinstance(content, bytes):
        raise Malformed("an output of a result has no content")
    return Output(spec_name, name, data_type, content_type, content, text_map(item, "tags"))
