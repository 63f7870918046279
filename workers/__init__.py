"""What runs on a worker's machine: joining, taking steps from the target's queue, running them, delivering results.

It trusts the orchestrator it pinned at the first join and nothing that Redis says; it never reads the repository.
"""
