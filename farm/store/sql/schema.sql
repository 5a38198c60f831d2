-- The tables of a store, format 1. user_version is the format; only ever add to it.

-- One row per record. Either data holds the encoded record, or place and size say where in the
-- file of large rows it is.
CREATE TABLE journal (
    ref INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    data BLOB,
    place INTEGER,
    size INTEGER
);

CREATE INDEX journal_place ON journal (place) WHERE place IS NOT NULL;

CREATE TABLE functions (
    hash BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    data BLOB NOT NULL
) WITHOUT ROWID;

-- One row. commit_number counts only when journal has no greater ref: see sqlite.sql.
CREATE TABLE meta (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    store_id BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    commit_number INTEGER NOT NULL
);

-- Of rows whose tasks start much later: when the first is due, in milliseconds since 1970, and the
-- record without arguments. Files that were made without it get it when they are opened.
CREATE TABLE IF NOT EXISTS later (
    ref INTEGER PRIMARY KEY,
    due INTEGER NOT NULL,
    head BLOB NOT NULL
);

CREATE INDEX IF NOT EXISTS later_due ON later (due);
