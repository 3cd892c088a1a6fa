package database

import (
	"context"
	"database/sql"
	"fmt"
)

// applicationID marks the file as Hearth's (PRAGMA application_id): "HRTH".
const applicationID = 0x48525448

// migration makes a version of a file of the one before it.
type migration struct {
	statements string
	fill       func(context.Context, *sql.Tx) error // what no statement can do, after them; nil: nothing
}

// migrations bring an older file up to date: entry i makes version i+1 of version i (PRAGMA user_version). An entry that was
// released is never changed; another one follows it.
var migrations = []migration{
	{statements: version1}, {statements: version2}, {statements: version3}, {statements: version4}, {statements: version5},
	{statements: version6, fill: indexTitles}, {statements: version7},
}

// version1 draws the tables. What holds of them whatever is inserted or deleted, and in whatever order, is said by foreign
// keys and triggers:
//
//  1. An item exists as long as a session or a response has it, and is stored once however many have it.
//  2. session.items and session.bytes are the sums over its entries.
//  3. tenant.sessions and tenant.bytes are the sums over what the tenant has.
//  4. What a session, a response or a completion consists of goes with it.
//
// Times are microseconds since 1970, UTC. Numbers grow with time and are never used again, so they order lists.
const version1 = `
CREATE TABLE tenant (
  number   INTEGER PRIMARY KEY AUTOINCREMENT,
  name     TEXT NOT NULL UNIQUE,
  sessions INTEGER NOT NULL,
  bytes    INTEGER NOT NULL
) STRICT;

CREATE TABLE log (
  number  INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant  TEXT NOT NULL,
  model   TEXT NOT NULL,
  parent  INTEGER REFERENCES log,  -- the log that this one begins like
  shared  INTEGER NOT NULL,        -- tokens of the parent that it begins with
  length  INTEGER NOT NULL,        -- of the whole log, in tokens
  created INTEGER NOT NULL,
  tokens  BLOB NOT NULL            -- its own tokens, 4 bytes each, little endian
) STRICT;
CREATE INDEX log_parent ON log (parent);
CREATE INDEX log_tenant ON log (tenant, model, number);

CREATE TABLE session (
  number   INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant   TEXT NOT NULL,
  id       TEXT NOT NULL,
  model    TEXT NOT NULL,
  title    TEXT NOT NULL,
  created  INTEGER NOT NULL,
  updated  INTEGER NOT NULL,
  ttl      INTEGER NOT NULL,       -- microseconds after updated; 0: for ever
  expires  INTEGER,
  pinned   INTEGER NOT NULL,
  metadata TEXT NOT NULL,
  parent   TEXT NOT NULL,
  forked   INTEGER NOT NULL,       -- items shared with the parent
  items    INTEGER NOT NULL DEFAULT 0,
  bytes    INTEGER NOT NULL DEFAULT 0,
  UNIQUE (tenant, id)
) STRICT;
CREATE INDEX session_expires ON session (expires) WHERE expires IS NOT NULL;

CREATE TABLE item (
  number  INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant  TEXT NOT NULL,
  id      TEXT NOT NULL,
  type    TEXT NOT NULL,
  role    TEXT NOT NULL,
  status  TEXT NOT NULL,
  created INTEGER NOT NULL,
  json    TEXT NOT NULL
) STRICT;
CREATE INDEX item_id ON item (tenant, id);
CREATE VIRTUAL TABLE item_text USING fts5 (text, columnsize = 0, tokenize = "unicode61 remove_diacritics 0 categories 'L* N* M* Co'");
INSERT INTO item_text (item_text, rank) VALUES ('secure-delete', 1);

CREATE TABLE entry (
  session  INTEGER NOT NULL REFERENCES session ON DELETE CASCADE,
  position INTEGER NOT NULL,       -- order, with gaps where items were deleted
  item     INTEGER NOT NULL REFERENCES item,
  log      INTEGER REFERENCES log, -- the tokens of everything up to here, where a turn ended here
  bytes    INTEGER NOT NULL,       -- of the item and of the log's own tokens
  PRIMARY KEY (session, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX entry_item ON entry (item);
CREATE INDEX entry_log ON entry (log) WHERE log IS NOT NULL;

CREATE TABLE response (
  number     INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant     TEXT NOT NULL,
  id         TEXT NOT NULL,
  session    INTEGER REFERENCES session ON DELETE CASCADE,
  previous   TEXT NOT NULL,
  model      TEXT NOT NULL,
  status     TEXT NOT NULL,
  background INTEGER NOT NULL,
  created    INTEGER NOT NULL,
  completed  INTEGER,
  expires    INTEGER,
  object     TEXT NOT NULL,
  events     INTEGER NOT NULL DEFAULT 0,  -- bytes of its events
  log        INTEGER REFERENCES log,
  UNIQUE (tenant, id)
) STRICT;
CREATE INDEX response_session ON response (session) WHERE session IS NOT NULL;
CREATE INDEX response_log ON response (log) WHERE log IS NOT NULL;
CREATE INDEX response_expires ON response (expires) WHERE expires IS NOT NULL;
CREATE INDEX response_running ON response (status) WHERE status IN ('queued', 'in_progress');

CREATE TABLE part (
  response INTEGER NOT NULL REFERENCES response ON DELETE CASCADE,
  output   INTEGER NOT NULL,       -- 0: of its input, 1: of its output
  position INTEGER NOT NULL,
  item     INTEGER NOT NULL REFERENCES item,
  PRIMARY KEY (response, output, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX part_item ON part (item);

CREATE TABLE event (
  response INTEGER NOT NULL REFERENCES response ON DELETE CASCADE,
  sequence INTEGER NOT NULL,
  json     TEXT NOT NULL,
  PRIMARY KEY (response, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE completion (
  number   INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant   TEXT NOT NULL,
  id       TEXT NOT NULL,
  model    TEXT NOT NULL,
  created  INTEGER NOT NULL,
  metadata TEXT NOT NULL,
  object   TEXT NOT NULL,
  messages TEXT NOT NULL,          -- a JSON array
  UNIQUE (tenant, id)
) STRICT;

CREATE TABLE usage (
  day       TEXT NOT NULL,
  tenant    TEXT NOT NULL,
  model     TEXT NOT NULL,
  requests  INTEGER NOT NULL,
  prompt    INTEGER NOT NULL,
  cached    INTEGER NOT NULL,
  written   INTEGER NOT NULL,
  generated INTEGER NOT NULL,
  PRIMARY KEY (tenant, day, model)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER entry_added AFTER INSERT ON entry BEGIN
  UPDATE session SET items = items + 1, bytes = bytes + new.bytes WHERE number = new.session;
END;
CREATE TRIGGER entry_deleted AFTER DELETE ON entry BEGIN
  UPDATE session SET items = items - 1, bytes = bytes - old.bytes WHERE number = old.session;
  DELETE FROM item WHERE number = old.item
    AND NOT EXISTS (SELECT 1 FROM entry WHERE item = old.item) AND NOT EXISTS (SELECT 1 FROM part WHERE item = old.item);
END;
CREATE TRIGGER part_deleted AFTER DELETE ON part BEGIN
  DELETE FROM item WHERE number = old.item
    AND NOT EXISTS (SELECT 1 FROM entry WHERE item = old.item) AND NOT EXISTS (SELECT 1 FROM part WHERE item = old.item);
END;

CREATE TRIGGER session_added AFTER INSERT ON session BEGIN
  INSERT INTO tenant (name, sessions, bytes) VALUES (new.tenant, 1, 0) ON CONFLICT DO UPDATE SET sessions = sessions + 1;
END;
CREATE TRIGGER session_deleted AFTER DELETE ON session BEGIN
  UPDATE tenant SET sessions = sessions - 1 WHERE name = old.tenant;
END;
CREATE TRIGGER item_added AFTER INSERT ON item BEGIN
  INSERT INTO tenant (name, sessions, bytes) VALUES (new.tenant, 0, octet_length(new.json)) ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER item_deleted AFTER DELETE ON item BEGIN
  UPDATE tenant SET bytes = bytes - octet_length(old.json) WHERE name = old.tenant;
  DELETE FROM item_text WHERE rowid = old.number;
END;
CREATE TRIGGER log_added AFTER INSERT ON log BEGIN
  INSERT INTO tenant (name, sessions, bytes) VALUES (new.tenant, 0, length(new.tokens)) ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER log_changed AFTER UPDATE OF tokens ON log BEGIN
  UPDATE tenant SET bytes = bytes - length(old.tokens) + length(new.tokens) WHERE name = new.tenant;
END;
CREATE TRIGGER log_deleted AFTER DELETE ON log BEGIN
  UPDATE tenant SET bytes = bytes - length(old.tokens) WHERE name = old.tenant;
END;
CREATE TRIGGER response_added AFTER INSERT ON response BEGIN
  INSERT INTO tenant (name, sessions, bytes) VALUES (new.tenant, 0, octet_length(new.object)) ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER response_changed AFTER UPDATE OF object, events ON response BEGIN
  UPDATE tenant SET bytes = bytes - octet_length(old.object) - old.events + octet_length(new.object) + new.events WHERE name = new.tenant;
END;
CREATE TRIGGER response_deleted AFTER DELETE ON response BEGIN
  UPDATE tenant SET bytes = bytes - octet_length(old.object) - old.events WHERE name = old.tenant;
END;
CREATE TRIGGER completion_added AFTER INSERT ON completion BEGIN
  INSERT INTO tenant (name, sessions, bytes) VALUES (new.tenant, 0, octet_length(new.object) + octet_length(new.messages))
    ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER completion_deleted AFTER DELETE ON completion BEGIN
  UPDATE tenant SET bytes = bytes - octet_length(old.object) - octet_length(old.messages) WHERE name = old.tenant;
END;
`

// version3 notes where in a log the answer begins, and keeps the tokens that deletions freed until what was computed of them
// is deleted too: a process that ends in between, or a model that is not loaded, leaves nothing behind for good.
const version3 = `
ALTER TABLE log ADD COLUMN prompt INTEGER NOT NULL DEFAULT 0;  -- tokens before the answer; 0: not known
CREATE INDEX session_pinned ON session (number) WHERE pinned;
CREATE TABLE freed (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant TEXT NOT NULL,
  model  TEXT NOT NULL,
  keep   INTEGER NOT NULL,         -- tokens that another log begins with
  tokens BLOB NOT NULL             -- all of them
) STRICT;
`

// version4 notes with what the tokens of a log were computed: fingerprints, separated by spaces. Those of a log are also its
// parent's.
const version4 = `
ALTER TABLE log ADD COLUMN computed TEXT NOT NULL DEFAULT '';
ALTER TABLE freed ADD COLUMN computed TEXT NOT NULL DEFAULT '';
`

// version5 finds the logs that begin alike without naming each other, as those of conversations with one system prompt.
const version5 = `
ALTER TABLE log ADD COLUMN head BLOB;  -- names its first tokens; NULL: it has fewer
CREATE INDEX log_head ON log (tenant, model, head);
`

// version6 finds sessions by their titles.
const version6 = `
CREATE VIRTUAL TABLE session_title USING fts5 (text, columnsize = 0, tokenize = "unicode61 remove_diacritics 0 categories 'L* N* M* Co'");
INSERT INTO session_title (session_title, rank) VALUES ('secure-delete', 1);
CREATE TRIGGER session_untitled AFTER DELETE ON session BEGIN
  DELETE FROM session_title WHERE rowid = old.number;
END;
`

// version7 gives completions a time, and finds the responses that go on from one.
const version7 = `
ALTER TABLE completion ADD COLUMN expires INTEGER;
CREATE INDEX completion_expires ON completion (expires) WHERE expires IS NOT NULL;
CREATE INDEX response_previous ON response (tenant, previous) WHERE previous <> '';
`

// migrate brings a file to the newest version of steps, each of them whole or not at all.
func migrate(ctx context.Context, db *sql.DB, steps []migration) error {
	for {
		done, err := migrateOnce(ctx, db, steps)
		if done || err != nil {
			return err
		}
	}
}

func migrateOnce(ctx context.Context, db *sql.DB, steps []migration) (done bool, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	version, err := versionOf(ctx, tx)
	switch {
	case err != nil:
		return false, err
	case version > len(steps):
		return false, versionError(version, len(steps))
	case version == len(steps):
		return true, nil
	}
	_, err = tx.ExecContext(ctx, steps[version].statements)
	if err == nil && steps[version].fill != nil {
		err = steps[version].fill(ctx, tx)
	}
	if err != nil {
		return false, fmt.Errorf("migrating to version %d: %w", version+1, err)
	}
	// Pragmas take no parameters; these are our own numbers.
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, version+1)); err != nil {
		return false, err
	}
	return false, tx.Commit()
}

// versionOf returns the version of a file, 0 where it has no tables yet, and refuses another program's.
func versionOf(ctx context.Context, tx *sql.Tx) (version int, err error) {
	var application, tables int
	err = tx.QueryRowContext(ctx, `SELECT (SELECT user_version FROM pragma_user_version),
		(SELECT application_id FROM pragma_application_id), (SELECT COUNT(*) FROM sqlite_schema)`).Scan(&version, &application, &tables)
	if err == nil && (version > 0 || tables > 0) && application != applicationID {
		err = fmt.Errorf("%w: not a database of Hearth", ErrForeign)
	}
	return version, err
}

func versionError(version, newest int) error {
	if version > newest {
		return fmt.Errorf("%w: it is of version %d, and this program knows versions up to %d", ErrForeign, version, newest)
	}
	return fmt.Errorf("it is of version %d, which a server brings to version %d when it starts", version, newest)
}
