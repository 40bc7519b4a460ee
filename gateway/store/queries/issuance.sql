-- reserve --
INSERT INTO serials (issuer_id, serial, status, request_id, plan, at, holder)
VALUES (:issuer_id, :serial, 'reserved', :request_id, :plan, :at, :holder)

-- take_up --
UPDATE certificate_requests
SET status = 'signing', failure = NULL, updated_at = :at, proof_kind = :proof_kind, proof_subject = :proof_subject,
  subject = :subject, sans = :sans
WHERE id = :id AND status = 'failed'

-- issue_serial --
UPDATE serials SET status = 'issued', certificate_id = :certificate_id, plan = NULL, at = :at, holder = NULL
WHERE issuer_id = :issuer_id AND serial = :serial AND status = 'reserved'

-- issue_request --
UPDATE certificate_requests SET status = 'issued', certificate_id = :certificate_id, updated_at = :at
WHERE id = :id AND status = 'signing'

-- burn_serial --
UPDATE serials SET status = 'burnt', at = :at
WHERE issuer_id = :issuer_id AND serial = :serial AND status = 'reserved'

-- fail_request --
UPDATE certificate_requests SET status = 'failed', failure = :failure, updated_at = :at
WHERE id = :id AND status = 'signing'

-- serials --
SELECT serial, status, request_id, certificate_id, plan, at FROM serials WHERE issuer_id = :issuer_id ORDER BY at, serial

-- find_serial --
SELECT serial, status, request_id, certificate_id, plan, at FROM serials
WHERE issuer_id = :issuer_id AND serial = :serial

-- reserved --
SELECT issuer_id, serial, request_id, holder FROM serials
WHERE status = 'reserved' AND at < :before ORDER BY at, serial

-- holders --
SELECT holder FROM serials WHERE status = 'reserved' AND at < :before AND holder IS NOT NULL
UNION SELECT holder FROM acme_orders WHERE status = 'processing' AND id > '' AND holder IS NOT NULL

-- release_orders --
UPDATE acme_orders SET status = 'ready', csr_hash = NULL, claimed_at = NULL
WHERE status = 'processing' AND claimed_at < :before

-- release_orders_of --
UPDATE acme_orders SET status = 'ready', csr_hash = NULL, claimed_at = NULL
WHERE status = 'processing' AND id > '' AND holder = :holder
