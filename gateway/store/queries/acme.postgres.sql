-- reusable --
-- Locked against a deactivation at the same time, which would miss the order that is about to stand on it.
SELECT id, account_id, identifier_type, identifier_value, wildcard, status, expires, challenges
FROM acme_authorizations
WHERE account_id = :account_id AND identifier_type = :type AND identifier_value = :value AND wildcard = :wildcard
  AND status = 'valid' AND created_at > :since AND expires > :at
ORDER BY created_at DESC LIMIT 1 FOR SHARE
