-- create_account --
INSERT INTO acme_accounts (id, pair_id, thumbprint, jwk, status, contact, created_at)
VALUES (:id, :pair_id, :thumbprint, :jwk, :status, :contact, :at)
ON CONFLICT (pair_id, thumbprint) DO NOTHING

-- find_account --
SELECT * FROM acme_accounts WHERE id = :id AND pair_id = :pair_id

-- find_account_by_key --
SELECT * FROM acme_accounts WHERE pair_id = :pair_id AND thumbprint = :thumbprint

-- account --
SELECT * FROM acme_accounts WHERE id = :id

-- set_contact --
UPDATE acme_accounts SET contact = :contact WHERE id = :id

-- end_account --
UPDATE acme_accounts SET status = :status WHERE id = :id AND status = 'valid'

-- end_authorizations --
UPDATE acme_authorizations SET status = 'deactivated', validating = 0
WHERE account_id = :account_id AND status IN ('pending', 'valid')

-- end_orders --
UPDATE acme_orders SET status = 'invalid' WHERE account_id = :account_id AND status IN ('pending', 'ready')

-- create_order --
INSERT INTO acme_orders (
  id, pair_id, account_id, status, identifiers, authorization_ids, unproved, created_at, expires, not_before, not_after,
  error, certificate_id, csr_hash
) VALUES (
  :id, :pair_id, :account_id, :status, :identifiers, :authorization_ids, :unproved, :at, :expires, :not_before,
  :not_after, :error, :certificate_id, :csr_hash
)

-- create_authorization --
INSERT INTO acme_authorizations (
  id, pair_id, account_id, status, identifier_type, identifier_value, wildcard, created_at, expires, challenges, validating
) VALUES (
  :id, :pair_id, :account_id, :status, :identifier_type, :identifier_value, :wildcard, :at, :expires, :challenges,
  :validating
)

-- link --
INSERT INTO acme_order_authorizations (authorization_id, order_id) VALUES (:authorization_id, :order_id)

-- find_order --
SELECT id, account_id, status, identifiers, authorization_ids, expires, not_before, not_after, error, certificate_id,
  csr_hash
FROM acme_orders WHERE id = :id AND pair_id = :pair_id

-- list_orders --
SELECT id FROM acme_orders
WHERE account_id = :account_id AND id > :after AND status <> 'invalid' AND (status = 'valid' OR expires > :at)
ORDER BY id LIMIT :limit

-- find_authorization --
SELECT id, account_id, identifier_type, identifier_value, wildcard, status, expires, challenges
FROM acme_authorizations WHERE id = :id AND pair_id = :pair_id

-- authorization --
SELECT id, account_id, identifier_type, identifier_value, wildcard, status, expires, challenges
FROM acme_authorizations WHERE id = :id

-- reusable --
-- The youngest is the one written last, where the index ends. By created_at all were read and sorted: of twelve that
-- took three times as long.
SELECT id, account_id, identifier_type, identifier_value, wildcard, status, expires, challenges
FROM acme_authorizations
WHERE account_id = :account_id AND identifier_type = :type AND identifier_value = :value AND wildcard = :wildcard
  AND status = 'valid' AND created_at > :since AND expires > :at
ORDER BY rowid DESC LIMIT 1

-- settle --
UPDATE acme_authorizations SET status = :status, challenges = :challenges, validating = :validating
WHERE id = :id AND status = 'pending' AND challenges = :before

-- deactivate_authorization --
UPDATE acme_authorizations SET status = 'deactivated', validating = 0
WHERE id = :id AND (status = 'pending' OR status = 'valid') AND expires > :at

-- prove_orders --
UPDATE acme_orders
SET unproved = unproved - 1, status = CASE WHEN unproved = 1 THEN 'ready' ELSE status END
WHERE status = 'pending' AND id IN (
  SELECT order_id FROM acme_order_authorizations WHERE authorization_id = :authorization_id
)

-- fail_orders --
UPDATE acme_orders SET status = 'invalid', error = :error
WHERE status IN ('pending', 'ready') AND id IN (
  SELECT order_id FROM acme_order_authorizations WHERE authorization_id = :authorization_id
)

-- claim_order --
UPDATE acme_orders SET status = 'processing', csr_hash = :csr_hash, claimed_at = :at, holder = :holder
WHERE id = :id AND status = 'ready' AND expires > :at

-- finish_order --
UPDATE acme_orders SET status = 'valid', certificate_id = :certificate_id
WHERE id = :id AND status IN ('processing', 'ready')

-- fail_order --
UPDATE acme_orders SET status = 'invalid', error = :error
WHERE id = :id AND status IN ('pending', 'ready', 'processing')

-- release_order --
UPDATE acme_orders SET status = 'ready', csr_hash = NULL, claimed_at = NULL
WHERE id = :id AND status = 'processing' AND COALESCE(holder, 0) = COALESCE(:holder, CAST(0 AS BIGINT))

-- unfinished --
SELECT id, account_id, identifier_type, identifier_value, wildcard, status, expires, challenges, pair_id
FROM acme_authorizations WHERE validating = 1 AND expires > :at ORDER BY id

-- collect_orders --
DELETE FROM acme_orders WHERE id IN (
  SELECT id FROM acme_orders WHERE expires < :before AND status <> 'processing' ORDER BY expires LIMIT :limit
)

-- collect_links --
DELETE FROM acme_order_authorizations WHERE authorization_id IN (
  SELECT id FROM acme_authorizations WHERE expires < :before ORDER BY expires, id LIMIT :limit
)

-- collect_authorizations --
DELETE FROM acme_authorizations WHERE id IN (
  SELECT id FROM acme_authorizations WHERE expires < :before ORDER BY expires, id LIMIT :limit
)
