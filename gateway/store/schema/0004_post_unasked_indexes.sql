-- Indexes that no query asks for any more: each cost every certificate a page to write, random fingerprints one of its own.
-- Later than the gateways that look a certificate up by its fingerprint: by its serial it is found as well.

DROP INDEX requests_of_application;

DROP INDEX certificate_sha256;

DROP INDEX certificates_of_application;

DROP INDEX certificates_by_end;

DROP INDEX revoked_certificates;
