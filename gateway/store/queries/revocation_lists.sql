-- states --
SELECT issuer_id, part, number, this_update, next_update, revision, claimed_number, claimed_at, urls
FROM revocation_lists

-- find --
SELECT issuer_id, part, number, this_update, next_update, revision, claimed_number, claimed_at, urls, der
FROM revocation_lists WHERE issuer_id = :issuer_id AND part = :part

-- claimable --
SELECT issuer_id, part, number, this_update, next_update, revision, claimed_number, claimed_at, urls
FROM revocation_lists WHERE issuer_id = :issuer_id AND part = :part

-- prepare --
INSERT INTO revocation_lists (
  issuer_id, part, number, this_update, next_update, revision, claimed_number, claimed_at, urls, der
) VALUES (:issuer_id, :part, 0, 0, 0, 0, 0, NULL, '[]', :der)
ON CONFLICT (issuer_id, part) DO NOTHING

-- claim --
UPDATE revocation_lists SET claimed_number = :number, claimed_at = :at, urls = :urls
WHERE issuer_id = :issuer_id AND part = :part AND claimed_number < :number
  AND (claimed_at IS NULL OR claimed_number = :own OR claimed_at < :abandoned OR claimed_at > :impossible)

-- keep --
UPDATE revocation_lists SET number = :number, this_update = :this_update, next_update = :next_update,
  revision = :revision, claimed_at = NULL, der = :der
WHERE issuer_id = :issuer_id AND part = :part AND claimed_number = :number AND number < :number

-- give_back --
UPDATE revocation_lists SET claimed_at = NULL
WHERE issuer_id = :issuer_id AND part = :part AND claimed_number = :number

-- give_all_back --
UPDATE revocation_lists SET claimed_at = NULL WHERE claimed_at IS NOT NULL
