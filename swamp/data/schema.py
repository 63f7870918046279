"""The tables of `.swamp/data/swamp.db`, and how an older database becomes a current one.

Every statement of the product that writes these tables is in `swamp.data` (data, journal) or `swamp.tokens` (the
tables of tokens and machines). Times are ISO 8601 text, ids are text, documents are JSON text, states are words.
"""

from __future__ import annotations

import sqlite3

from swamp.errors import Invalid

VERSION = 5

_VERSION_1 = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- One execution of a workflow, or of one method (kind).
CREATE TABLE runs (
    seq INTEGER PRIMARY KEY,                -- order of acceptance
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,                     -- 'workflow' or 'method'
    workflow_id TEXT NOT NULL,
    workflow_name TEXT NOT NULL,
    owner TEXT NOT NULL,                    -- who drives it: 'serve' or 'command'
    status TEXT NOT NULL,                   -- running, succeeded, failed, canceled
    plan TEXT NOT NULL,                     -- JSON: jobs, steps and resolved invocations, frozen at acceptance
    created_at TEXT NOT NULL,
    deadline TEXT,                          -- when it is canceled if it has not ended; NULL: never
    canceled_at TEXT,                       -- since when it is being ended early; NULL: nobody asked
    ended_at TEXT,
    error TEXT
);
CREATE INDEX runs_by_workflow ON runs (workflow_name, seq);
CREATE INDEX runs_active ON runs (status) WHERE status = 'running';

-- A step of a run; rows exist from acceptance on, in plan order.
CREATE TABLE steps (
    run_id TEXT NOT NULL,
    position INTEGER NOT NULL,              -- index in the plan's flat list of steps
    status TEXT NOT NULL,                   -- pending, queued, running, succeeded, failed, canceled, skipped
    dispatch_id TEXT,                       -- the dispatch whose result counts
    started_at TEXT,
    ended_at TEXT,
    error TEXT,
    PRIMARY KEY (run_id, position)
) WITHOUT ROWID;

-- One attempt to execute one placed step on one machine. Ids are never used twice.
CREATE TABLE dispatches (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    target TEXT NOT NULL,
    state TEXT NOT NULL,                    -- queued, granted, begun, finished, superseded, lost
    machine TEXT,
    epoch INTEGER,
    created_at TEXT NOT NULL,
    begun_at TEXT,
    ended_at TEXT,
    outcome TEXT,                           -- succeeded, failed, canceled; of late results too
    evidence TEXT                           -- JSON, an array: results that came too late to count
) WITHOUT ROWID;
CREATE INDEX dispatches_live ON dispatches (target, state) WHERE state IN ('queued', 'granted', 'begun');

-- What happened in a run, in order; the terminal, --json and the history show these.
CREATE TABLE run_events (
    run_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    event TEXT NOT NULL,                    -- JSON
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;

-- Versions of data. Immutable. 'Latest' is a query.
CREATE TABLE data (
    rowid INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    model_id TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    model_name TEXT NOT NULL,
    model_type TEXT NOT NULL,
    spec_name TEXT NOT NULL,
    data_type TEXT NOT NULL,                -- 'resource' or 'file'
    content_type TEXT NOT NULL,
    tags TEXT NOT NULL,                     -- JSON object
    size INTEGER NOT NULL,                  -- bytes
    checksum TEXT NOT NULL,                 -- SHA-256, hex
    content BLOB,                           -- NULL: in blobs/<first two hex>/<checksum>
    workflow_name TEXT NOT NULL,            -- '' where no workflow ran
    run_id TEXT NOT NULL,
    job_name TEXT NOT NULL,
    step_name TEXT NOT NULL,
    target TEXT NOT NULL,                   -- '' where the step had none
    machine TEXT NOT NULL,                  -- '' where the orchestrator or the command itself ran it
    UNIQUE (model_id, name, version)
);
CREATE INDEX data_by_model ON data (model_name, name, version);
CREATE INDEX data_by_run ON data (run_id);

CREATE TABLE tokens (
    name TEXT PRIMARY KEY,                  -- = target = RQ queue
    vault TEXT NOT NULL,
    vault_key TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    revoked_at TEXT,
    max_enrollments INTEGER                 -- NULL: unlimited
) WITHOUT ROWID;

-- A machine bound by a token.
CREATE TABLE machines (
    id TEXT PRIMARY KEY,                    -- derived from the public key
    public_key BLOB NOT NULL,
    token TEXT NOT NULL,
    worker TEXT NOT NULL,                   -- the name people see
    bound_at TEXT NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,       -- boot epoch of the last message applied
    sequence INTEGER NOT NULL DEFAULT 0,    -- its sequence number
    redis_password_hash TEXT,               -- SHA-256, hex, as Redis wants it
    platform TEXT NOT NULL DEFAULT '',      -- e.g. linux/x86_64
    slots INTEGER NOT NULL DEFAULT 0,
    last_seen_at TEXT
) WITHOUT ROWID;
CREATE INDEX machines_by_token ON machines (token);
"""

_VERSION_2 = """
ALTER TABLE tokens ADD COLUMN rotated_at TEXT;                          -- NULL: its secret is the first one
ALTER TABLE tokens ADD COLUMN key_generation INTEGER NOT NULL DEFAULT 1; -- which key of its target is in use

ALTER TABLE machines ADD COLUMN revoked_at TEXT;                        -- put out alone, its token goes on
ALTER TABLE machines ADD COLUMN grace REAL NOT NULL DEFAULT 0;          -- seconds that its steps get at the end

-- Machines that knew a token's secret and were refused all the same; the last few of each token.
CREATE TABLE refused_joins (
    token TEXT NOT NULL,
    machine TEXT NOT NULL,
    code TEXT NOT NULL,
    at TEXT NOT NULL,                       -- the last time
    times INTEGER NOT NULL,
    host TEXT NOT NULL,                     -- as the machine says
    address TEXT NOT NULL,
    PRIMARY KEY (token, machine, code)
) WITHOUT ROWID;
"""

_VERSION_3 = """
-- Machines that a person has told to take no new steps.
CREATE TABLE drained (
    machine TEXT PRIMARY KEY,
    at TEXT NOT NULL,
    note TEXT NOT NULL                      -- why, in that person's words; may be empty
) WITHOUT ROWID;
"""

_VERSION_4 = """
-- Who may hand runs to the orchestrator from another machine.
CREATE TABLE access_tokens (
    name TEXT PRIMARY KEY,
    secret_hash TEXT NOT NULL,              -- SHA-256, hex
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    revoked_at TEXT
) WITHOUT ROWID;
"""

_VERSION_5 = """
-- What a run's row held until now. A plan may have megabytes, and whoever asks for the columns behind it in the row, or
-- changes one, would have SQLite go through all of it.
CREATE TABLE plans (
    run_seq INTEGER PRIMARY KEY,            -- = runs.seq
    plan TEXT NOT NULL                      -- JSON: jobs, steps and resolved invocations, frozen at acceptance
);
INSERT INTO plans (run_seq, plan) SELECT seq, plan FROM runs;
ALTER TABLE runs DROP COLUMN plan;
"""

_STEPS: dict[int, str] = {1: _VERSION_1, 2: _VERSION_2, 3: _VERSION_3, 4: _VERSION_4, 5: _VERSION_5}


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database forward to `VERSION`, each step in a transaction of its own.

    Raises `Invalid` for a database that a newer Swamp wrote.
    """
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > VERSION:
        raise Invalid(
            f"the database has schema version {found}, this Swamp knows {VERSION}",
            hint="use the newer Swamp that wrote it",
        )
    for version in range(found + 1, VERSION + 1):
        connection.executescript(f"BEGIN EXCLUSIVE;\n{_STEPS[version]}\nPRAGMA user_version = {version};\nCOMMIT;")
