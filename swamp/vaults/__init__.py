"""Secrets: a vault protocol and the vault types that keep it."""
