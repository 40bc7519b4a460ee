-- insert --
INSERT INTO certificates (
  id, issuer_id, serial, der, subject, sans, not_before, not_after, sha1, sha256, spki_sha256, key_algorithm,
  signature_algorithm, source, created_at, application_id, profile_id, request_id, protocol, renewed_from, renewed_by,
  revoked_at, revocation_reason, metadata, managed_key, crl_partition
) VALUES (
  :id, :issuer_id, :serial, :der, :subject, :sans, :not_before, :not_after, :sha1, :sha256, :spki_sha256, :key_algorithm,
  :signature_algorithm, :source, :created_at, :application_id, :profile_id, :request_id, :protocol, :renewed_from,
  :renewed_by, :revoked_at, :revocation_reason, :metadata, :managed_key,
  :crl_partition
)

-- insert_serial --
INSERT INTO serials (issuer_id, serial, status, certificate_id, at)
VALUES (:issuer_id, :serial, 'issued', :certificate_id, :at)

-- renewed_by --
UPDATE certificates SET renewed_by = :renewed_by WHERE id = :id

-- revoke --
UPDATE certificates SET revoked_at = :at, revocation_reason = :reason WHERE id = :id

-- find --
SELECT * FROM certificates WHERE id = :id

-- find_for --
SELECT certificates.issuer_id, certificates.der
FROM certificates JOIN certificate_requests AS request ON request.id = certificates.request_id
WHERE certificates.id = :id AND request.application_id = :application_id AND request.profile_id = :profile_id
  AND request.proof_kind = :proof_kind AND request.proof_subject = :proof_subject

-- find_by_sha256 --
-- IN, not a join: of a join SQLite takes the serials for the outer loop, and reads all of them.
SELECT certificates.* FROM serials JOIN certificates ON certificates.id = serials.certificate_id
WHERE serials.issuer_id IN (SELECT id FROM authorities) AND serials.serial = :serial
  AND certificates.sha256 = :sha256

-- find_by_serial --
SELECT certificates.* FROM serials JOIN certificates ON certificates.id = serials.certificate_id
WHERE serials.issuer_id = :issuer_id AND serials.serial = :serial
