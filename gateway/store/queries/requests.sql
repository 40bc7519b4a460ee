-- insert --
INSERT INTO certificate_requests (
  id, application_id, profile_id, protocol, status, proof_kind, proof_subject, deduplication, subject, sans, created_at,
  updated_at, certificate_id, failure
) VALUES (
  :id, :application_id, :profile_id, :protocol, :status, :proof_kind, :proof_subject, :deduplication, :subject, :sans,
  :created_at, :updated_at, :certificate_id, :failure
) ON CONFLICT (application_id, profile_id, deduplication) WHERE deduplication IS NOT NULL DO NOTHING

-- find --
SELECT * FROM certificate_requests WHERE id = :id

-- find_by_deduplication --
SELECT * FROM certificate_requests
WHERE application_id = :application_id AND profile_id = :profile_id AND deduplication = :deduplication

-- cancel --
UPDATE certificate_requests SET status = 'cancelled', updated_at = :at
WHERE id = :id AND status IN ('pending_approval', 'approved')

-- search --
-- By id, which sorts by the millisecond of creation (RFC 9562, 5.7): ordered by created_at, one page of a million
-- requests had all of them sorted first, which took two seconds of every enrollment's time.
-- JSON is read only where its text holds what is looked for (:rough, as JSON spells it): that took most of a search.
SELECT * FROM certificate_requests
WHERE (CAST(:applications AS TEXT) IS NULL OR application_id IN (SELECT value FROM json_each(:applications)))
  AND (CAST(:profile_id AS TEXT) IS NULL OR profile_id = :profile_id)
  AND (CAST(:status AS TEXT) IS NULL OR status = :status)
  AND (CAST(:pattern AS TEXT) IS NULL OR lower(subject) LIKE :pattern ESCAPE '!'
    OR lower(sans) LIKE :rough ESCAPE '!' AND EXISTS (
    SELECT 1 FROM json_each(sans) AS san WHERE lower(json_extract(san.value, '$.value')) LIKE :pattern ESCAPE '!'
  ))
ORDER BY id DESC LIMIT :limit OFFSET :offset

-- count --
SELECT count(*) AS total FROM certificate_requests
WHERE (CAST(:applications AS TEXT) IS NULL OR application_id IN (SELECT value FROM json_each(:applications)))
  AND (CAST(:profile_id AS TEXT) IS NULL OR profile_id = :profile_id)
  AND (CAST(:status AS TEXT) IS NULL OR status = :status)
  AND (CAST(:pattern AS TEXT) IS NULL OR lower(subject) LIKE :pattern ESCAPE '!'
    OR lower(sans) LIKE :rough ESCAPE '!' AND EXISTS (
    SELECT 1 FROM json_each(sans) AS san WHERE lower(json_extract(san.value, '$.value')) LIKE :pattern ESCAPE '!'
  ))
