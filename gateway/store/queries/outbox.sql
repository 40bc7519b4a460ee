-- append --
INSERT INTO outbox (id, kind, application_id, subject_id, at, status, attempts, due)
VALUES (:id, :kind, :application_id, :subject_id, :at, 'pending', 0, :at)

-- pending --
SELECT id, kind, application_id, subject_id, at, attempts FROM outbox
WHERE status = 'pending' AND due <= :at ORDER BY due, id LIMIT :limit

-- mark --
UPDATE outbox SET status = :status, attempts = attempts + 1, due = :due WHERE id = :id AND status = 'pending'

-- forget --
DELETE FROM outbox WHERE id IN (
  SELECT id FROM outbox WHERE status = 'pending' AND due < :before ORDER BY due LIMIT :limit
)

-- collect --
DELETE FROM outbox WHERE id IN (
  SELECT id FROM outbox WHERE status <> 'pending' AND at < :before ORDER BY id LIMIT :limit
)
