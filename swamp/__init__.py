"""Swamp runs the steps of a workflow on other machines and keeps what they produced.

This package is imported by every process of the product, the smallest included: it imports nothing.
"""

__version__ = "0.1.0"
