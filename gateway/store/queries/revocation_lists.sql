-- states --
SELECT issuer_id, part, number, this_update, next_update, revision, urls
FROM revocation_lists

-- state --
SELECT issuer_id, part, number, this_update, next_update, revision, urls
FROM revocation_lists WHERE issuer_id = :issuer_id AND part = :part

-- find --
SELECT issuer_id, part, number, this_update, next_update, revision, urls, der
FROM revocation_lists WHERE issuer_id = :issuer_id AND part = :part

-- keep --
INSERT INTO revocation_lists (
  issuer_id, part, number, this_update, next_update, revision, claimed_number, claimed_at, urls, der
) VALUES (:issuer_id, :part, :number, :this_update, :next_update, :revision, :number, NULL, :urls, :der)
ON CONFLICT (issuer_id, part) DO UPDATE SET
  number = excluded.number, this_update = excluded.this_update, next_update = excluded.next_update,
  revision = excluded.revision, claimed_number = excluded.claimed_number, claimed_at = NULL,
  urls = excluded.urls, der = excluded.der
WHERE revocation_lists.number < excluded.number

-- prepare --
INSERT INTO revocation_numbers (issuer_id, part, claimed_number, claimed_at, urls)
VALUES (:issuer_id, :part, 0, NULL, '[]')
ON CONFLICT (issuer_id, part) DO NOTHING

-- claimable --
SELECT claimed_number, urls FROM revocation_numbers WHERE issuer_id = :issuer_id AND part = :part

-- claim --
UPDATE revocation_numbers SET claimed_number = :number, claimed_at = :at, urls = :urls
WHERE issuer_id = :issuer_id AND part = :part AND claimed_number < :number
  AND (claimed_at IS NULL OR claimed_number = :own OR claimed_at < :abandoned OR claimed_at > :impossible)

-- give_back --
UPDATE revocation_numbers SET claimed_at = NULL
WHERE issuer_id = :issuer_id AND part = :part AND claimed_number = :number

-- give_all_back --
UPDATE revocation_numbers SET claimed_at = NULL WHERE claimed_at IS NOT NULL
