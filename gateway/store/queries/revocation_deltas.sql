-- states --
SELECT issuer_id, part, named_by, named_until, freshest, number, this_update, next_update, base_revision, revision
FROM revocation_deltas

-- state --
SELECT issuer_id, part, named_by, named_until, freshest, number, this_update, next_update, base_revision, revision
FROM revocation_deltas WHERE issuer_id = :issuer_id AND part = :part

-- find --
SELECT issuer_id, part, named_by, named_until, freshest, number, this_update, next_update, base_revision, revision, der
FROM revocation_deltas WHERE issuer_id = :issuer_id AND part = :part

-- newest --
SELECT this_update, next_update FROM revocation_bases
WHERE issuer_id = :issuer_id AND part = :part ORDER BY number DESC LIMIT 1

-- forget --
DELETE FROM revocation_bases WHERE issuer_id = :issuer_id AND part = :part AND (next_update <= :then OR this_update > :at)

-- add --
INSERT INTO revocation_bases (issuer_id, part, number, this_update, next_update, revision, urls)
VALUES (:issuer_id, :part, :number, :this_update, :next_update, :revision, :urls)

-- name --
INSERT INTO revocation_deltas (
  issuer_id, part, named_by, named_until, freshest, number, this_update, next_update, base_revision, revision, der
) VALUES (
  :issuer_id, :part, :named_by,
  (SELECT MAX(next_update) FROM revocation_bases
    WHERE issuer_id = :issuer_id AND part = :part AND urls = :urls AND this_update <= :at),
  :freshest, 0, 0, 0, :revision, :revision, :der
)
ON CONFLICT (issuer_id, part) DO UPDATE SET
  named_by = excluded.named_by, named_until = excluded.named_until, freshest = excluded.freshest

-- base --
SELECT oldest.number, oldest.revision, oldest.urls
FROM revocation_bases AS newest JOIN revocation_bases AS oldest
  ON oldest.issuer_id = newest.issuer_id AND oldest.part = newest.part AND oldest.urls = newest.urls
WHERE newest.issuer_id = :issuer_id AND newest.part = :part AND newest.number = (
  SELECT MAX(number) FROM revocation_bases WHERE issuer_id = :issuer_id AND part = :part
)
  AND oldest.this_update <= :at AND oldest.next_update > :at
ORDER BY oldest.number LIMIT 1

-- keep --
UPDATE revocation_deltas SET number = :number, this_update = :this_update, next_update = :next_update,
  base_revision = :base_revision, revision = :revision, der = :der
WHERE issuer_id = :issuer_id AND part = :part AND number < :number
