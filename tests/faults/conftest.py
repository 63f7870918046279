"""Every test here has a repository of its own, as the end-to-end tests have."""

from __future__ import annotations

from tests.e2e.conftest import initialized, runtime, stage

__all__ = ["initialized", "runtime", "stage"]
