-- find --
SELECT serials.status, certificates.der, revocations.revoked_at
FROM serials
LEFT JOIN certificates ON certificates.id = serials.certificate_id
LEFT JOIN revocations ON revocations.issuer_id = serials.issuer_id AND revocations.serial = serials.serial
  AND revocations.reason <> 8
WHERE serials.issuer_id = :issuer_id AND serials.serial = :serial

-- issued --
SELECT id, issuer_id, serial, created_at FROM certificates
WHERE id > :after AND source = 'issued' AND created_at < :until
ORDER BY id LIMIT :most
