-- search --
-- By id, which sorts by the millisecond of creation (RFC 9562, 5.7): ordered by created_at, one page of a million
-- requests had all of them sorted first, which took two seconds of every enrollment's time.
SELECT * FROM certificate_requests
WHERE (CAST(:applications AS TEXT) IS NULL
       OR application_id IN (SELECT json_array_elements_text(CAST(CAST(:applications AS TEXT) AS JSON))))
  AND (CAST(:profile_id AS TEXT) IS NULL OR profile_id = :profile_id)
  AND (CAST(:status AS TEXT) IS NULL OR status = :status)
  AND (CAST(:pattern AS TEXT) IS NULL OR lower(subject) LIKE :pattern ESCAPE '!'
    OR lower(sans) LIKE :rough ESCAPE '!' AND EXISTS (
    SELECT 1 FROM json_array_elements(CAST(sans AS JSON)) AS san
    WHERE lower(san ->> 'value') LIKE :pattern ESCAPE '!'
  ))
ORDER BY id DESC LIMIT :limit OFFSET :offset

-- count --
SELECT count(*) AS total FROM certificate_requests
WHERE (CAST(:applications AS TEXT) IS NULL
       OR application_id IN (SELECT json_array_elements_text(CAST(CAST(:applications AS TEXT) AS JSON))))
  AND (CAST(:profile_id AS TEXT) IS NULL OR profile_id = :profile_id)
  AND (CAST(:status AS TEXT) IS NULL OR status = :status)
  AND (CAST(:pattern AS TEXT) IS NULL OR lower(subject) LIKE :pattern ESCAPE '!'
    OR lower(sans) LIKE :rough ESCAPE '!' AND EXISTS (
    SELECT 1 FROM json_array_elements(CAST(sans AS JSON)) AS san
    WHERE lower(san ->> 'value') LIKE :pattern ESCAPE '!'
  ))
