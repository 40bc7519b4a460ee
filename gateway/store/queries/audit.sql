-- head --
SELECT position, hash FROM audit_head WHERE id = 1

-- head_to_append --
SELECT position, hash FROM audit_head WHERE id = 1

-- append --
INSERT INTO audit (position, at, actor, action, target, outcome, application_id, detail, source, request_id, hash)
VALUES (:position, :at, :actor, :action, :target, :outcome, :application_id, :detail, :source, :request_id, :hash)

-- move_head --
UPDATE audit_head SET position = :position, hash = :hash WHERE id = 1

-- page --
SELECT position, at, actor, action, target, outcome, application_id, detail, source, request_id, hash
FROM audit WHERE position > :after ORDER BY position LIMIT :limit
