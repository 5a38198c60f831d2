-- name: read_meta
SELECT store_id, epoch, commit_number, (SELECT max(ref) FROM journal) FROM meta WHERE only = 1;

-- name: insert_meta
INSERT INTO meta (only, store_id, epoch, commit_number) VALUES (1, ?, 0, 0);

-- name: set_epoch
UPDATE meta SET epoch = ? WHERE only = 1;

-- name: raise_epoch
UPDATE meta SET epoch = max(epoch, ?) WHERE only = 1;

-- name: greatest_ref
SELECT max(ref) FROM journal;

-- Run when the greatest ref was deleted, for max(ref) can no longer tell.
-- name: commit_number
UPDATE meta SET commit_number = ? WHERE only = 1;

-- name: append
INSERT INTO journal (ref, kind, data, place, size) VALUES (?, ?, ?, ?, ?);

-- name: delete
DELETE FROM journal WHERE ref = ?;

-- name: make_later
CREATE TABLE IF NOT EXISTS later (
    ref INTEGER PRIMARY KEY,
    due INTEGER NOT NULL,
    head BLOB NOT NULL
);

-- name: make_later_due
CREATE INDEX IF NOT EXISTS later_due ON later (due);

-- An older release deletes rows without their heads.
-- name: tidy_later
DELETE FROM later WHERE ref NOT IN (SELECT ref FROM journal);

-- name: append_later
INSERT INTO later (ref, due, head) VALUES (?, ?, ?);

-- name: delete_later
DELETE FROM later WHERE ref = ?;

-- name: later
SELECT ref FROM later;

-- name: has_later
SELECT 1 FROM sqlite_master WHERE name = 'later_due';

-- name: next_due
SELECT (SELECT count(*) FROM later), (SELECT min(due) FROM later);

-- name: put_function
INSERT INTO functions (hash, name, data) VALUES (?, ?, ?) ON CONFLICT (hash) DO NOTHING;

-- name: drop_function
DELETE FROM functions WHERE hash = ?;

-- name: functions
SELECT hash, name, data FROM functions ORDER BY hash;

-- name: records_after
SELECT ref, data, place, size FROM journal WHERE ref > ? ORDER BY ref LIMIT ?;

-- What has a head is not read.
-- name: heads_after
SELECT journal.ref, CASE WHEN head IS NULL THEN data END, place, size, head
FROM journal LEFT JOIN later ON later.ref = journal.ref
WHERE journal.ref > ? ORDER BY journal.ref LIMIT ?;

-- name: record
SELECT data, place, size FROM journal WHERE ref = ?;

-- name: places
SELECT ref, place, size FROM journal WHERE place IS NOT NULL ORDER BY place;

-- name: last_place
SELECT ref, place, size FROM journal WHERE place IS NOT NULL ORDER BY place DESC LIMIT 1;

-- name: move
UPDATE journal SET place = ? WHERE ref = ?;

-- name: rows_after
SELECT ref, kind, data, place, size FROM journal WHERE ref > ? ORDER BY ref LIMIT ?;

-- name: set_store_id
UPDATE meta SET store_id = ? WHERE only = 1;
