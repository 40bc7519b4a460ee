-- version --
SELECT version FROM catalogue_version WHERE id = 1

-- bump --
UPDATE catalogue_version SET version = version + 1 WHERE id = 1

-- authorities --
SELECT document FROM authorities ORDER BY name

-- policies --
SELECT document FROM policies ORDER BY name

-- profiles --
SELECT document, policy_id FROM profiles ORDER BY slug

-- applications --
SELECT document FROM applications ORDER BY name

-- pairs --
SELECT application_id, profile_id, settings FROM pairs ORDER BY application_id, profile_id

-- save_authority --
INSERT INTO authorities (id, name, document) VALUES (:id, :name, :document)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, document = excluded.document

-- save_policy --
INSERT INTO policies (id, name, document) VALUES (:id, :name, :document)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, document = excluded.document

-- save_profile --
INSERT INTO profiles (id, slug, authority_id, policy_id, document)
VALUES (:id, :slug, :authority_id, :policy_id, :document)
ON CONFLICT (id) DO UPDATE SET slug = excluded.slug, authority_id = excluded.authority_id,
  policy_id = excluded.policy_id, document = excluded.document

-- save_application --
INSERT INTO applications (id, name, document) VALUES (:id, :name, :document)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, document = excluded.document

-- attach --
INSERT INTO pairs (application_id, profile_id, settings) VALUES (:application_id, :profile_id, :settings)
ON CONFLICT (application_id, profile_id) DO NOTHING

-- save_settings --
INSERT INTO pairs (application_id, profile_id, label, settings) VALUES (:application_id, :profile_id, :label, :settings)
ON CONFLICT (application_id, profile_id) DO UPDATE SET label = excluded.label, settings = excluded.settings

-- detach --
DELETE FROM pairs WHERE application_id = :application_id AND profile_id = :profile_id
