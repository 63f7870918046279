"""What others watch an orchestrator by: whether it lives, whether work can flow, and figures."""
