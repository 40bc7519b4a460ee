-- head_to_append --
-- The lock on this row lasts until the commit: several gateways append one after the other.
SELECT position, hash FROM audit_head WHERE id = 1 FOR UPDATE
