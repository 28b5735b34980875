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

-- what was reached is found once, and its list read once, whatever the planner takes the events for
CREATE FUNCTION pg_temp.times_called(query text) RETURNS TABLE (function text, calls bigint) LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ' || query INTO plan;
	RETURN QUERY SELECT n->>'Function Name', sum((n->>'Actual Loops')::bigint)::bigint
		FROM jsonb_path_query(plan::jsonb, 'strict $.** ? (exists(@."Function Name"))') n
		WHERE n->>'Function Name' IN ('relay_slot', 'pg_snapshot_xip') GROUP BY 1 ORDER BY 1;
END $$;
SELECT count(outbox.emit('status.orders', 'k', 'Made', '{}')) FROM generate_series(1, 20);
BEGIN;
INSERT INTO outbox.batch
SELECT 0, 0, gen_random_uuid(), '3:3:', format('%s:%s:%s', min(txid::text::bigint), max(txid::text::bigint) + 1,
	string_agg(DISTINCT txid::text, ','))::pg_snapshot, NULL, NULL, NULL, NULL, 0, 0, pg_current_xact_id(), 1, 0, 0, clock_timestamp()
FROM outbox.event WHERE topic = 'status.orders';
UPDATE pg_class SET reltuples = 0, relpages = 1000 WHERE relname ~ '^event_[0-7]$' AND relnamespace = 'outbox'::regnamespace;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_material = off;
SELECT events FROM outbox.backlog WHERE topic = 'status.orders';
SELECT * FROM pg_temp.times_called('SELECT * FROM outbox.backlog');
SELECT * FROM pg_temp.times_called('SELECT * FROM outbox.flow');
ROLLBACK;
