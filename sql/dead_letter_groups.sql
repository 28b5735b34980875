-- Dead letters of one kind: fingerprints, groups, actions by filter.
\set SHOW_CONTEXT never

-- one kind, whatever record it was
SELECT count(DISTINCT outbox.dead_letter_fingerprint('groups', 'record', '23505', message)) AS kinds
FROM (VALUES ('order ord-9f3: amount -12.50 at 2026-01-01 10:20:30 exceeds "limit a"'),
	('order ord-1: amount 3 at 2026-01-02 11:21:31.5 exceeds "limit b"')) m (message);
SELECT count(DISTINCT outbox.dead_letter_fingerprint('groups', 'record', '23505', message)) AS kinds
FROM (VALUES ('no order 0199f0aa-bbcc-7ddd-8eee-ffffffffffff, hash deadbeefcafe, can''t be ''x y'' (order_id)=(a, b)'),
	('no order abcdefab-abcd-abcd-abcd-abcdefabcdef, hash 0xdeadbeef, can''t be ''z'' (order_id)=(c)')) m (message);
-- another kind: message, consumer, class, code
SELECT count(DISTINCT outbox.dead_letter_fingerprint(consumer, class, code, message)) AS kinds
FROM (VALUES ('groups', 'record', '23505', 'order 1 is paid'), ('groups', 'record', '23505', 'order 1 is unpaid'),
	('other', 'record', '23505', 'order 1 is paid'), (NULL, 'record', '23505', 'order 1 is paid'),
	('groups', 'decode', '23505', 'order 1 is paid'), ('groups', 'record', NULL, 'order 1 is paid')) m (consumer, class, code, message);
-- the same on every server
SELECT outbox.dead_letter_fingerprint('groups', 'record', '23505', 'order 7 is paid');
