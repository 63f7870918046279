"""The text of a new workflow: one to start from, or somebody's own with the id that Swamp made. Pure."""

from __future__ import annotations

from swamp import yamlfile
from swamp.definitions import PLACEHOLDER_ID
from swamp.errors import Invalid
from swamp.workflows.parsing import parse_workflow
from swamp.workflows.workflow import Workflow, document

_SCAFFOLD = """\
# Jobs run side by side unless one depends on another, and so do the steps of a job.
id: {id}
name: {name}
description: What this workflow is for
jobs:
  - name: main
    # concurrency: 4            # at most so many steps at once
    # dependsOn:
    #   - job: another-job
    #     condition: succeeded  # or failed, completed, skipped, always
    steps:
      - name: first
        # target: build-node    # run it on the workers that joined with this token; without it, it runs here
        # dependsOn:
        #   - step: another-step
        task:
          type: model_method
          modelIdOrName: {name}
          methodName: execute
          # inputs:             # laid over the model's own arguments
          #   run: echo hello
version: 1
"""


def scaffold(name: str, workflow_id: str) -> str:
    """A workflow with one step, which calls `execute` of the model that is called as the workflow."""
    return _SCAFFOLD.format(id=workflow_id, name=name)


def with_id(text: str, workflow: Workflow) -> str:
    """`text`, from which `workflow` was parsed, with its id in it; comments and order stay where possible."""
    root = yamlfile.load(text, workflow.path)
    id_node = root.entries("the workflow").get("id")
    if id_node is not None and id_node.value != PLACEHOLDER_ID:
        return text
    lines = text.splitlines(keepends=True)
    if id_node is not None:
        place = root.key_lines["id"] - 1
        lines[place] = lines[place].replace(PLACEHOLDER_ID, workflow.id, 1)
    else:
        lines.insert(min(root.key_lines.values()) - 1, f"id: {workflow.id}\n")
    changed = "".join(lines)
    try:
        kept = parse_workflow(changed, workflow.path) == workflow
    except Invalid:
        kept = False
    # A workflow written as JSON, or otherwise unlike what was expected, is written anew.
    return changed if kept else yamlfile.dump(document(workflow))
