-- Delta lists (RFC 5280, 5.2.4), the complete lists to which one must be found, and the numbers that both have.

CREATE TABLE revocation_numbers (
  issuer_id TEXT NOT NULL,
  part INTEGER NOT NULL,
  claimed_number INTEGER NOT NULL,
  claimed_at INTEGER,
  urls TEXT NOT NULL,
  PRIMARY KEY (issuer_id, part)
) STRICT;

INSERT INTO revocation_numbers (issuer_id, part, claimed_number, urls)
SELECT issuer_id, part, claimed_number, urls FROM revocation_lists;

CREATE TABLE revocation_bases (
  issuer_id TEXT NOT NULL,
  part INTEGER NOT NULL,
  number INTEGER NOT NULL,
  this_update INTEGER NOT NULL,
  next_update INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  urls TEXT NOT NULL,
  PRIMARY KEY (issuer_id, part, number)
) STRICT;

CREATE TABLE revocation_deltas (
  issuer_id TEXT NOT NULL,
  part INTEGER NOT NULL,
  named_by INTEGER NOT NULL,
  named_until INTEGER NOT NULL,
  freshest TEXT NOT NULL,
  number INTEGER NOT NULL,
  this_update INTEGER NOT NULL,
  next_update INTEGER NOT NULL,
  base_revision INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  der BLOB NOT NULL,
  PRIMARY KEY (issuer_id, part)
) STRICT;
