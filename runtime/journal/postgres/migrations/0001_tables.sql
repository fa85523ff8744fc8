-- Who owns a shard. epoch grows with every claim and release. cut is the last
-- position that a cut removed: it stands here, and not beside the head, because
-- an append checks it under its lock on this row.
CREATE TABLE shard_owner (
	shard    integer PRIMARY KEY,
	node     text    NOT NULL,
	epoch    bigint  NOT NULL,
	released boolean NOT NULL DEFAULT false,
	next     text    NOT NULL DEFAULT '',
	cut      bigint  NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE member (
	node text   PRIMARY KEY,
	addr text   NOT NULL,
	beat bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE journal_entry (
	shard integer NOT NULL,
	seq   bigint  NOT NULL,
	epoch bigint  NOT NULL,
	data  bytea   NOT NULL,
	PRIMARY KEY (shard, seq)
);
-- Groups are short-lived: compressing them costs more than it saves.
ALTER TABLE journal_entry ALTER COLUMN data SET STORAGE EXTERNAL;

-- turn orders the checkpoints and cuts of an epoch: see DESIGN.md.
CREATE TABLE journal_head (
	shard integer PRIMARY KEY,
	epoch bigint  NOT NULL,
	turn  bigint  NOT NULL,
	head  bytea
);

CREATE TABLE checkpoint (
	shard integer NOT NULL,
	type  bytea   NOT NULL,
	key   bytea   NOT NULL,
	data  bytea   NOT NULL,
	PRIMARY KEY (shard, type, key)
);
