-- Revocation lists that scale: what is revoked in a narrow table of its own, and each authority's lists as signed.

ALTER TABLE certificates ADD COLUMN crl_partition INTEGER;

CREATE TABLE revocations (
  issuer_id TEXT NOT NULL,
  serial TEXT NOT NULL,
  revoked_at INTEGER NOT NULL,
  reason INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  crl_partition INTEGER,
  revision INTEGER NOT NULL,
  PRIMARY KEY (issuer_id, serial)
) STRICT, WITHOUT ROWID;
CREATE INDEX revocations_by_revision ON revocations (issuer_id, revision);

CREATE TABLE revocation_revisions (
  issuer_id TEXT NOT NULL PRIMARY KEY,
  revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE revocation_lists (
  issuer_id TEXT NOT NULL,
  part INTEGER NOT NULL,
  number INTEGER NOT NULL,
  this_update INTEGER NOT NULL,
  next_update INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  claimed_number INTEGER NOT NULL,
  claimed_at INTEGER,
  urls TEXT NOT NULL,
  der BLOB NOT NULL,
  PRIMARY KEY (issuer_id, part)
) STRICT;

INSERT INTO revocations (issuer_id, serial, revoked_at, reason, not_after, revision)
SELECT issuer_id, serial, revoked_at, COALESCE(revocation_reason, 0), not_after, 1
FROM certificates WHERE revoked_at IS NOT NULL;

INSERT INTO revocation_revisions (issuer_id, revision) SELECT DISTINCT issuer_id, 1 FROM revocations;
