"""How long whoever speaks to Redis waits, in seconds."""

from __future__ import annotations

CONNECT_TIMEOUT = 5.0  # until a server that does not answer counts as away
REPLY_TIMEOUT = 5.0  # for any command that does not block
LONGEST_BLOCK = 20.0  # no caller may ask a blocking command to wait longer than this
BLOCKING_REPLY_TIMEOUT = LONGEST_BLOCK + 10.0  # a half-open connection is noticed even in a blocking read
