-- next_revision --
INSERT INTO revocation_revisions (issuer_id, revision) VALUES (:issuer_id, 1)
ON CONFLICT (issuer_id) DO UPDATE SET revision = revocation_revisions.revision + 1

-- revision --
SELECT revision FROM revocation_revisions WHERE issuer_id = :issuer_id

-- revisions --
SELECT issuer_id, revision FROM revocation_revisions

-- put --
INSERT INTO revocations (issuer_id, serial, revoked_at, reason, not_after, crl_partition, revision)
VALUES (:issuer_id, :serial, :revoked_at, :reason, :not_after, :crl_partition, :revision)
ON CONFLICT (issuer_id, serial) DO UPDATE SET
  revoked_at = excluded.revoked_at, reason = excluded.reason, revision = excluded.revision

-- find --
SELECT revoked_at, reason FROM revocations WHERE issuer_id = :issuer_id AND serial = :serial

-- burn --
INSERT INTO serials (issuer_id, serial, status, at) VALUES (:issuer_id, :serial, 'burnt', :at)

-- status --
SELECT serials.status, revocations.revoked_at, revocations.reason
FROM serials LEFT JOIN revocations
  ON revocations.issuer_id = serials.issuer_id AND revocations.serial = serials.serial
WHERE serials.issuer_id = :issuer_id AND serials.serial = :serial

-- since --
SELECT serial, revoked_at, reason, not_after, crl_partition, revision
FROM revocations WHERE issuer_id = :issuer_id AND (revision, serial) > (:revision, :serial)
ORDER BY revision, serial LIMIT :most
