-- find_token --
SELECT identities.id, identities.name, identities.kind, identities.product_role, tokens.expires_at
FROM tokens JOIN identities ON identities.id = tokens.identity_id
WHERE tokens.sha256 = :sha256 AND (tokens.expires_at IS NULL OR tokens.expires_at > :at)

-- touch_token --
UPDATE tokens SET last_used_at = :at WHERE sha256 = :sha256 AND (last_used_at IS NULL OR last_used_at < :at)

-- create_token --
INSERT INTO tokens (id, sha256, identity_id, created_at, expires_at)
VALUES (:id, :sha256, :identity_id, :at, :expires_at)

-- delete_token --
DELETE FROM tokens WHERE id = :id

-- tokens --
SELECT id, created_at, expires_at, last_used_at FROM tokens WHERE identity_id = :identity_id ORDER BY created_at

-- every_token --
SELECT tokens.id, tokens.created_at, tokens.expires_at, tokens.last_used_at, identities.name
FROM tokens JOIN identities ON identities.id = tokens.identity_id
ORDER BY identities.name, tokens.created_at

-- create_identity --
INSERT INTO identities (id, name, kind, product_role, created_at) VALUES (:id, :name, :kind, :product_role, :at)

-- find_identity --
SELECT id, name, kind, product_role FROM identities WHERE name = :name

-- save_member --
INSERT INTO members (application_id, identity_id, role, created_at)
VALUES (:application_id, :identity_id, :role, :at)
ON CONFLICT (application_id, identity_id) DO UPDATE SET role = excluded.role

-- remove_member --
DELETE FROM members WHERE application_id = :application_id AND identity_id = :identity_id

-- role --
SELECT role FROM members WHERE application_id = :application_id AND identity_id = :identity_id

-- memberships --
SELECT application_id, role FROM members WHERE identity_id = :identity_id
