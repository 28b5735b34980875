-- What the views tell while nothing is relayed, and what the tables refuse.
SELECT database = current_database() AS here, state, pid, batch_no, delivered_batch, events_sent, delivery, order_mode
	FROM outbox.relay_status;

SELECT outbox.declare_topic('status.orders', 1);
SELECT outbox.emit('status.orders', 'k1', 'Made', '{"a": "ä"}', '{"h": "v"}') IS NOT NULL;
SELECT outbox.emit('status.orders', 'k2', 'Gone', NULL, NULL) IS NOT NULL;
SELECT outbox.emit_bytes('status.orders', '\xff00', 'Raw', '\x00ff', 'application/octet-stream',
	ARRAY[ROW('h', '\x00ff')::outbox.header, ROW('h', NULL)::outbox.header]) IS NOT NULL;

SELECT topic, key, type, payload, content_type, headers
	FROM outbox.events WHERE topic = 'status.orders' ORDER BY seq;
SELECT topic, events, bytes, oldest_age > '0'::interval AS aged
	FROM outbox.backlog WHERE topic = 'status.orders';
SELECT oldest_unsent_age > '0'::interval AS aged FROM outbox.relay_status;

-- bytes that are no headers
SELECT * FROM outbox.headers_decode('\x02');

-- insert-only, leaves included
UPDATE outbox.event SET topic = 'other';
DELETE FROM outbox.event;
DELETE FROM outbox.event_0;
TRUNCATE outbox.event;
TRUNCATE outbox.event_3;
DELETE FROM outbox.batch_1;
UPDATE outbox.audit SET reason = 'other';
TRUNCATE outbox.audit;

-- rows that logical replication applies are dropped
BEGIN;
SET LOCAL session_replication_role = replica;
INSERT INTO outbox.event (txid, seq, segment, id, topic, type, created_at)
	VALUES ('7', -1, 3, gen_random_uuid(), 'status.orders', 'Foreign', now());
INSERT INTO outbox.event_3 (txid, seq, segment, id, topic, type, created_at)
	VALUES ('7', -1, 3, gen_random_uuid(), 'status.orders', 'Foreign', now());
INSERT INTO outbox.batch SELECT 7, 0, gen_random_uuid(), '3:3:', '3:3:', NULL, NULL, NULL, NULL, 0, 0, '7', 1, 1, 1, now();
TRUNCATE outbox.event_3;
ROLLBACK;

-- only a role with the right may look or switch
CREATE ROLE outbox_operator;
SET ROLE outbox_operator;
SELECT state FROM outbox.relay_status;
RESET ROLE;
SELECT outbox.grant_operate('outbox_operator');
SET ROLE outbox_operator;
SELECT state FROM outbox.relay_status;
SELECT events FROM outbox.backlog WHERE topic = 'status.orders';
SELECT count(*) >= 0 FROM outbox.batches;
SELECT payload FROM outbox.events;
SELECT outbox.check_start();
SELECT outbox.adopt('resend');
SELECT outbox.adopt('perhaps');
RESET ROLE;
DROP OWNED BY outbox_operator;
DROP ROLE outbox_operator;
