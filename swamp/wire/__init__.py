"""Bytes that leave a process, each with its written form in `docs/protocol.md`."""
