-- Who has a serial reserved, or an order claimed: what a process that died had under way is known at once.

ALTER TABLE serials ADD COLUMN holder INTEGER;

ALTER TABLE acme_orders ADD COLUMN holder INTEGER;
