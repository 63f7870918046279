"""A version of data, as queries and commands see it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from swamp.values import value


@value
class Origin:
    """Which run, job and step produced data, and where. Empty text where there is none."""

    workflow_name: str = ""
    run_id: str = ""
    job_name: str = ""
    step_name: str = ""
    target: str = ""
    machine: str = ""


@value
class Blob:
    """Content that lies in the content-addressed files already."""

    checksum: str  #: SHA-256, hex
    size: int  #: bytes


@value
class Output:
    """One thing a method produced, before it has a version.

    `content` is the exact bytes: the JSON text of the attributes for a resource, the file itself for a file.
    """

    spec_name: str
    name: str
    data_type: str  #: `resource` or `file`
    content_type: str
    content: bytes | Blob
    tags: Mapping[str, str] = field(default_factory=dict)
