-- The whole schema as it is now: what a fresh store is made from. A test proves that it equals the sum of the migrations.
-- INTEGER is 64 bits (PostgreSQL: BIGINT), BLOB is bytes (BYTEA); the engine's file says how the words are turned.
-- Times are milliseconds since the epoch, UTC. Lists and records are JSON.
-- A CHECK spells its names with OR: for an IN list SQLite builds an index at every insert, 5 microseconds each.
-- Foreign keys stand where rows are few; the tables of every enrollment pay for none: their parents are never deleted.

CREATE TABLE migrations (
  name TEXT NOT NULL PRIMARY KEY
) STRICT;

-- Catalogue: what administrators declare. `document` holds the whole noun, so that a field needs no migration.

CREATE TABLE catalogue_version (
  id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  version INTEGER NOT NULL
) STRICT;
INSERT INTO catalogue_version (id, version) VALUES (1, 0);

CREATE TABLE authorities (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  document TEXT NOT NULL
) STRICT;

CREATE TABLE policies (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  document TEXT NOT NULL
) STRICT;

CREATE TABLE profiles (
  id TEXT NOT NULL PRIMARY KEY,
  slug TEXT NOT NULL UNIQUE,
  authority_id TEXT NOT NULL REFERENCES authorities (id),
  policy_id TEXT NOT NULL REFERENCES policies (id),
  document TEXT NOT NULL
) STRICT;

CREATE TABLE applications (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  document TEXT NOT NULL
) STRICT;

CREATE TABLE pairs (
  application_id TEXT NOT NULL REFERENCES applications (id),
  profile_id TEXT NOT NULL REFERENCES profiles (id),
  label TEXT UNIQUE, -- EST's own segment, where one was declared
  settings TEXT NOT NULL,
  PRIMARY KEY (application_id, profile_id)
) STRICT;

-- Access

CREATE TABLE identities (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL CONSTRAINT identity_kind CHECK (kind = 'user' OR kind = 'machine'),
  product_role TEXT NOT NULL CONSTRAINT product_role CHECK (
    product_role = 'product_admin' OR product_role = 'product_member'
  ),
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
  id TEXT NOT NULL PRIMARY KEY,
  sha256 BLOB NOT NULL UNIQUE, -- of the whole token: what is stolen from here opens nothing
  identity_id TEXT NOT NULL REFERENCES identities (id),
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  last_used_at INTEGER
) STRICT;

CREATE TABLE members (
  application_id TEXT NOT NULL REFERENCES applications (id),
  identity_id TEXT NOT NULL REFERENCES identities (id),
  role TEXT NOT NULL CONSTRAINT member_role CHECK (role = 'admin' OR role = 'operator' OR role = 'auditor'),
  created_at INTEGER NOT NULL,
  PRIMARY KEY (application_id, identity_id)
) STRICT;
CREATE INDEX members_of_identity ON members (identity_id);

-- Enrollment

CREATE TABLE certificate_requests (
  id TEXT NOT NULL PRIMARY KEY,
  application_id TEXT NOT NULL,
  profile_id TEXT NOT NULL,
  protocol TEXT NOT NULL CONSTRAINT request_protocol CHECK (
    protocol = 'api' OR protocol = 'acme' OR protocol = 'est' OR protocol = 'scep'
  ),
  status TEXT NOT NULL CONSTRAINT request_status CHECK (
    status = 'pending_approval' OR status = 'approved' OR status = 'signing' OR status = 'issued'
    OR status = 'failed' OR status = 'rejected' OR status = 'cancelled' OR status = 'expired'
  ),
  proof_kind TEXT NOT NULL CONSTRAINT proof_kind CHECK (
    proof_kind = 'acme-order' OR proof_kind = 'est-passphrase' OR proof_kind = 'est-certificate'
    OR proof_kind = 'scep-challenge' OR proof_kind = 'scep-certificate' OR proof_kind = 'api-token'
  ),
  proof_subject TEXT NOT NULL,
  deduplication BLOB,
  subject TEXT NOT NULL,
  sans TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  certificate_id TEXT,
  failure TEXT,
  CHECK ((status = 'issued') = (certificate_id IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX request_deduplication ON certificate_requests (application_id, profile_id, deduplication)
  WHERE deduplication IS NOT NULL;

-- A serial is reserved here before any signature, and is never reused: the primary key is the promise. The plan says
-- what may exist under it; once the certificate is in the inventory the plan has said it all.
CREATE TABLE serials (
  issuer_id TEXT NOT NULL,
  serial TEXT NOT NULL,
  status TEXT NOT NULL CONSTRAINT serial_status CHECK (status = 'reserved' OR status = 'issued' OR status = 'burnt'),
  request_id TEXT,
  certificate_id TEXT,
  plan BLOB,
  at INTEGER NOT NULL,
  holder INTEGER, -- the process that reserved it (`gateway.store.duty`), while it is reserved
  PRIMARY KEY (issuer_id, serial),
  CHECK ((status = 'issued') = (certificate_id IS NOT NULL))
) STRICT;
CREATE INDEX reserved_serials ON serials (at) WHERE status = 'reserved';

-- The uniqueness of (issuer, serial) is that of `serials`, by which a certificate is found too: each index more would be
-- a page more to write for every certificate.
CREATE TABLE certificates (
  id TEXT NOT NULL PRIMARY KEY,
  issuer_id TEXT NOT NULL,
  serial TEXT NOT NULL,
  der BLOB NOT NULL,
  subject TEXT NOT NULL,
  sans TEXT NOT NULL,
  not_before INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  sha1 TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  spki_sha256 TEXT NOT NULL,
  key_algorithm TEXT NOT NULL,
  signature_algorithm TEXT NOT NULL,
  source TEXT NOT NULL CONSTRAINT certificate_source CHECK (
    source = 'issued' OR source = 'imported' OR source = 'ceremony'
  ),
  created_at INTEGER NOT NULL,
  application_id TEXT,
  profile_id TEXT,
  request_id TEXT,
  protocol TEXT,
  renewed_from TEXT,
  renewed_by TEXT,
  revoked_at INTEGER,
  revocation_reason INTEGER,
  metadata TEXT NOT NULL,
  managed_key BLOB,
  crl_partition INTEGER -- the list that its distribution point names; NULL: the whole one
) STRICT;

-- Revocation: narrow rows, so that a list of 100,000 entries reads no certificate. A serial of which no certificate is
-- known stands here as well. A row stays when a hold is released (reason 8, removeFromCRL).
CREATE TABLE revocations (
  issuer_id TEXT NOT NULL,
  serial TEXT NOT NULL,
  revoked_at INTEGER NOT NULL,
  reason INTEGER NOT NULL, -- RFC 5280, 5.3.1
  not_after INTEGER NOT NULL,
  crl_partition INTEGER, -- NULL: the whole list alone; -1: every partition, for nobody knows which one was named
  revision INTEGER NOT NULL, -- its issuer's when this row was last changed
  PRIMARY KEY (issuer_id, serial)
) STRICT, WITHOUT ROWID;
CREATE INDEX revocations_by_revision ON revocations (issuer_id, revision);

CREATE TABLE revocation_revisions (
  issuer_id TEXT NOT NULL PRIMARY KEY,
  revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The lists as signed. `der` is last: whoever asks for numbers reads no page of it.
CREATE TABLE revocation_lists (
  issuer_id TEXT NOT NULL,
  part INTEGER NOT NULL, -- a partition's number; -1: the whole list
  number INTEGER NOT NULL, -- 0: none was signed yet
  this_update INTEGER NOT NULL,
  next_update INTEGER NOT NULL,
  revision INTEGER NOT NULL, -- its issuer's that it shows
  claimed_number INTEGER NOT NULL, -- the same as `number`: versions before revocation_numbers claimed here
  claimed_at INTEGER,
  urls TEXT NOT NULL, -- its names in its distribution point
  der BLOB NOT NULL,
  PRIMARY KEY (issuer_id, part)
) STRICT;

-- The numbers of a part's lists, complete ones and deltas, and whose turn it is to sign. Not beside `der`: an engine
-- writes a row anew when a number in it changes, and a list has megabytes.
CREATE TABLE revocation_numbers (
  issuer_id TEXT NOT NULL,
  part INTEGER NOT NULL,
  claimed_number INTEGER NOT NULL, -- the highest that anyone set out to sign
  claimed_at INTEGER, -- while someone signs
  urls TEXT NOT NULL, -- every name that the part ever had in a distribution point
  PRIMARY KEY (issuer_id, part)
) STRICT;

-- Complete lists that say where their delta is (RFC 5280, 5.2.6), until they run out. A delta is one to the oldest.
CREATE TABLE revocation_bases (
  issuer_id TEXT NOT NULL,
  part INTEGER NOT NULL,
  number INTEGER NOT NULL,
  this_update INTEGER NOT NULL,
  next_update INTEGER NOT NULL,
  revision INTEGER NOT NULL, -- its issuer's that it shows
  urls TEXT NOT NULL, -- every name in its distribution point: a delta to it has the same
  PRIMARY KEY (issuer_id, part, number)
) STRICT;

-- The deltas as signed, a row for each part whose complete list ever named one. Their numbers are those of
-- revocation_numbers, as complete lists' are. `der` is last here too.
CREATE TABLE revocation_deltas (
  issuer_id TEXT NOT NULL,
  part INTEGER NOT NULL,
  named_by INTEGER NOT NULL, -- the number of the last list that says where its delta is
  named_until INTEGER NOT NULL, -- when the last of them runs out
  freshest TEXT NOT NULL, -- where it says so
  number INTEGER NOT NULL, -- 0: none was signed yet
  this_update INTEGER NOT NULL,
  next_update INTEGER NOT NULL,
  base_revision INTEGER NOT NULL, -- the changes after this one are on it
  revision INTEGER NOT NULL, -- its issuer's that it shows
  der BLOB NOT NULL,
  PRIMARY KEY (issuer_id, part)
) STRICT;

-- ACME

CREATE TABLE acme_accounts (
  id TEXT NOT NULL PRIMARY KEY,
  pair_id TEXT NOT NULL,
  thumbprint TEXT NOT NULL,
  jwk BLOB NOT NULL,
  status TEXT NOT NULL CONSTRAINT account_status CHECK (
    status = 'valid' OR status = 'deactivated' OR status = 'revoked'
  ),
  contact TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX account_key ON acme_accounts (pair_id, thumbprint);

CREATE TABLE acme_orders (
  id TEXT NOT NULL PRIMARY KEY,
  pair_id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  status TEXT NOT NULL CONSTRAINT order_status CHECK (
    status = 'pending' OR status = 'ready' OR status = 'processing' OR status = 'valid' OR status = 'invalid'
  ),
  identifiers TEXT NOT NULL,
  authorization_ids TEXT NOT NULL,
  unproved INTEGER NOT NULL CHECK (unproved >= 0), -- how many of its authorizations are not valid yet
  created_at INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  not_before INTEGER,
  not_after INTEGER,
  error TEXT,
  certificate_id TEXT,
  csr_hash BLOB,
  claimed_at INTEGER, -- when its finalize was accepted, while it is processing
  holder INTEGER, -- and by which process
  CHECK ((status = 'valid') = (certificate_id IS NOT NULL))
) STRICT;
CREATE INDEX orders_of_account ON acme_orders (account_id, id);
CREATE INDEX orders_by_end ON acme_orders (expires);
CREATE INDEX processing_orders ON acme_orders (id) WHERE status = 'processing';

CREATE TABLE acme_authorizations (
  id TEXT NOT NULL PRIMARY KEY,
  pair_id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  status TEXT NOT NULL CONSTRAINT authorization_status CHECK (
    status = 'pending' OR status = 'valid' OR status = 'invalid' OR status = 'deactivated' OR status = 'expired'
    OR status = 'revoked'
  ),
  identifier_type TEXT NOT NULL CONSTRAINT identifier_type CHECK (identifier_type = 'dns' OR identifier_type = 'ip'),
  identifier_value TEXT NOT NULL,
  wildcard INTEGER NOT NULL CHECK (wildcard = 0 OR wildcard = 1),
  created_at INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  challenges TEXT NOT NULL,
  validating INTEGER NOT NULL CHECK (validating = 0 OR validating = 1) -- whether one of its challenges is `processing`
) STRICT;
CREATE INDEX authorizations_of_account ON acme_authorizations (account_id, identifier_value);
CREATE INDEX authorizations_by_end ON acme_authorizations (expires);
CREATE INDEX validating_authorizations ON acme_authorizations (id) WHERE validating = 1;

CREATE TABLE acme_order_authorizations (
  authorization_id TEXT NOT NULL,
  order_id TEXT NOT NULL,
  PRIMARY KEY (authorization_id, order_id)
) STRICT, WITHOUT ROWID;

-- Events for alerts, syncs and webhooks, written in the commit of what happened.

CREATE TABLE outbox (
  id TEXT NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL,
  application_id TEXT,
  subject_id TEXT NOT NULL,
  at INTEGER NOT NULL,
  status TEXT NOT NULL CONSTRAINT outbox_status CHECK (
    status = 'pending' OR status = 'delivered' OR status = 'abandoned'
  ),
  attempts INTEGER NOT NULL,
  due INTEGER NOT NULL
) STRICT;
CREATE INDEX pending_outbox ON outbox (due) WHERE status = 'pending';

-- Audit: a hash chain. The head stands apart, so that a tail cut off is seen as well.

CREATE TABLE audit (
  position INTEGER NOT NULL PRIMARY KEY,
  at INTEGER NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  outcome TEXT NOT NULL CONSTRAINT audit_outcome CHECK (
    outcome = 'success' OR outcome = 'refused' OR outcome = 'failed'
  ),
  application_id TEXT,
  detail TEXT NOT NULL,
  source TEXT NOT NULL,
  request_id TEXT NOT NULL,
  hash BLOB NOT NULL
) STRICT;

CREATE TABLE audit_head (
  id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  position INTEGER NOT NULL,
  hash BLOB NOT NULL
) STRICT;
INSERT INTO audit_head (id, position, hash) VALUES (1, 0, CAST('' AS BLOB));
