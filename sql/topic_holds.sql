-- What the views tell of topics held apart; the rows are as the relay writes them.
SELECT * FROM outbox.topic_holds;
SELECT topics_held, events_held FROM outbox.relay_status;

SELECT outbox.declare_topic('holds.a', 1), outbox.declare_topic('holds.b', 1);
SELECT outbox.emit('holds.a', 'k1', 'Before', '0') IS NOT NULL AS emitted;
SELECT outbox.emit('holds.a', 'k1', 'First', '1') IS NOT NULL AS emitted;
SELECT outbox.emit('holds.b', 'k1', 'Other', '1') IS NOT NULL AS emitted;
SELECT outbox.emit('holds.a', 'k2', 'Second', '2') IS NOT NULL AS emitted;
SELECT outbox.emit('holds.a', 'k3', 'Third', '3') IS NOT NULL AS emitted;
SELECT outbox.emit('holds.a', 'k4', 'Fourth', '4') IS NOT NULL AS emitted;
-- copies, each in a transaction of its own
CREATE PROCEDURE pg_temp.copy_event(kind text) LANGUAGE sql AS $$
	INSERT INTO outbox.event
	SELECT pg_current_xact_id(), nextval('outbox.event_seq'), segment, id, topic, key, type, payload, content_type, headers,
		created_at, clock_timestamp()
	FROM outbox.event WHERE topic = 'holds.a' AND type = kind AND copied_at IS NULL;
$$;
CALL pg_temp.copy_event('First');
CALL pg_temp.copy_event('Second');
CALL pg_temp.copy_event('Third');
SELECT outbox.emit('holds.a', 'k5', 'Newest', '5') IS NOT NULL AS emitted;

CREATE FUNCTION pg_temp.txid_of(kind text, copy boolean) RETURNS xid8 LANGUAGE sql AS $$
	SELECT txid FROM outbox.event WHERE topic LIKE 'holds._' AND type = kind AND (copied_at IS NOT NULL) = copy;
$$;
CREATE FUNCTION pg_temp.snapshot_of(kind text, copy boolean) RETURNS pg_snapshot LANGUAGE sql AS $$
	SELECT format('%1$s:%1$s:', pg_temp.txid_of(kind, copy)::text::bigint + 1)::pg_snapshot;
$$;
-- the batch that ends with an event, and what the hold left out of it
CREATE FUNCTION pg_temp.add_batch(number bigint, kind text, copy boolean DEFAULT false) RETURNS void LANGUAGE sql AS $$
	INSERT INTO outbox.batch
	SELECT number, 0, gen_random_uuid(), coalesce((SELECT upper FROM outbox.batch ORDER BY batch_no DESC LIMIT 1), '3:3:'),
		pg_temp.snapshot_of(kind, copy), NULL, NULL, NULL, NULL, 0, 0, pg_current_xact_id(), 1, 0, 0, clock_timestamp();
$$;
CREATE FUNCTION pg_temp.leave_out(number bigint, oldest text, amount integer) RETURNS void LANGUAGE sql AS $$
	INSERT INTO outbox.topic_hold_batch
	SELECT (SELECT max(id) FROM outbox.topic_hold), b.batch_no, b.lower, b.upper, NULL, NULL, NULL, NULL, amount, 3 * amount,
		(SELECT created_at FROM outbox.event WHERE txid = pg_temp.txid_of(oldest, false))
	FROM outbox.batch b WHERE b.batch_no = number;
$$;
CREATE FUNCTION pg_temp.note_copy(kind text, of_batch bigint) RETURNS void LANGUAGE sql AS $$
	INSERT INTO outbox.topic_hold_copy
	SELECT (SELECT max(id) FROM outbox.topic_hold), txid, of_batch, pg_temp.txid_of(kind, false), 0, 1, 3, NULL
	FROM outbox.event WHERE txid = pg_temp.txid_of(kind, true);
$$;
CREATE VIEW pg_temp.told AS
	SELECT event.type, state, at = event.created_at AS original FROM outbox.flow
		JOIN outbox.event ON event.id = flow.event_id AND coalesce(copied_at, created_at) = at
	WHERE flow.topic LIKE 'holds._' AND source = 'event' ORDER BY txid;
CREATE VIEW pg_temp.held AS
	SELECT topic, cause, partition, reason, state, held_by = current_user AS by_me, events, bytes,
		(SELECT type FROM outbox.event WHERE created_at = oldest_at AND copied_at IS NULL) AS oldest, copied,
		released_at, released_by, ended_at IS NOT NULL AS ended
	FROM outbox.topic_holds;

BEGIN;
INSERT INTO outbox.topic_hold (topic, cause, partition, reason)
VALUES ('holds.a', 'leader', 0, 'partition 0 has no leader');
SELECT * FROM pg_temp.held;
SELECT pg_temp.add_batch(1, 'Before'), pg_temp.add_batch(2, 'Second'), pg_temp.leave_out(2, 'First', 2),
	pg_temp.add_batch(3, 'Fourth'), pg_temp.leave_out(3, 'Third', 2), pg_temp.add_batch(4, 'Fourth');
SELECT * FROM pg_temp.held;
SELECT topics_held, events_held FROM outbox.relay_status;
-- behind the log are the copies alone, and what was emitted since
SELECT * FROM pg_temp.told;
SELECT type, copied_at IS NOT NULL AS copy FROM outbox.unsent WHERE topic LIKE 'holds._' ORDER BY txid;

-- the first is copied, not sent
UPDATE outbox.topic_hold SET state = 'releasing', released_at = now(), released_by = current_user;
SELECT pg_temp.note_copy('First', 2);
SELECT events, bytes, oldest, copied FROM pg_temp.held;
SELECT * FROM pg_temp.told WHERE type = 'First';
-- a batch has its copy: it is sent; the second one's is there, the third one's Kafka has refused
SELECT pg_temp.add_batch(5, 'First', true);
SELECT pg_temp.note_copy('Second', 2), pg_temp.note_copy('Third', 3);
UPDATE outbox.topic_hold_copy SET refused_batch = 6 WHERE txid = pg_temp.txid_of('Third', true);
SELECT events, bytes, oldest, copied FROM pg_temp.held;
SELECT pg_temp.add_batch(6, 'Newest'), pg_temp.add_batch(7, 'Newest');
SELECT * FROM pg_temp.told;
-- a copy that is a dead letter
SAVEPOINT letter;
INSERT INTO outbox.dead_letter (origin, topic, event_id, event_type, txid, seq, state, error_class, error_message)
SELECT 'relay', topic, id, type, txid, seq, 'open', 'refused', 'too large' FROM outbox.event WHERE txid = pg_temp.txid_of('Second', true);
SELECT * FROM pg_temp.told WHERE type = 'Second';
ROLLBACK TO letter;
-- another topic's hold
INSERT INTO outbox.topic_hold (topic, cause, reason) VALUES ('holds.b', 'operator', 'tested');
SELECT topics_held, events_held FROM outbox.relay_status;
-- ended, with its rows and without
UPDATE outbox.topic_hold SET state = 'ended', ended_at = now(), copied = 4;
SELECT topic, state, events, bytes, oldest, copied, ended FROM pg_temp.held ORDER BY topic;
SELECT topics_held, events_held FROM outbox.relay_status;
DELETE FROM outbox.topic_hold_batch;
DELETE FROM outbox.topic_hold_copy;
SELECT topic, copied FROM pg_temp.held ORDER BY topic;
SELECT * FROM pg_temp.told WHERE type = 'Fourth';

-- one hold of a topic at a time
INSERT INTO outbox.topic_hold (topic, cause, reason) VALUES ('holds.a', 'operator', 'tested');
SAVEPOINT another;
INSERT INTO outbox.topic_hold (topic, cause, reason) VALUES ('holds.a', 'operator', 'tested');
ROLLBACK;

-- each list of a hold is read once, whatever the planner takes it for
CREATE FUNCTION pg_temp.rows_read(query text) RETURNS TABLE (relation text, read bigint) LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ' || query INTO plan;
	RETURN QUERY SELECT n->>'Relation Name', sum((n->>'Actual Loops')::bigint
			* ((n->>'Actual Rows')::bigint + coalesce((n->>'Rows Removed by Filter')::bigint, 0)))::bigint
		FROM jsonb_path_query(plan::jsonb, 'strict $.** ? (exists(@."Relation Name"))') n
		WHERE n->>'Relation Name' IN ('topic_hold_batch', 'topic_hold_copy') GROUP BY 1 ORDER BY 1;
END $$;
BEGIN;
INSERT INTO outbox.topic_hold (topic, cause, reason, state)
SELECT 'holds.' || n, 'operator', 'tested', CASE WHEN n > 10 THEN 'ended' ELSE 'held' END FROM generate_series(1, 50) n;
INSERT INTO outbox.topic_hold_batch
SELECT id, n, '3:3:', '3:3:', NULL, NULL, NULL, NULL, 1, 1, now()
FROM outbox.topic_hold CROSS JOIN generate_series(1, 100) n WHERE state = 'held';
INSERT INTO outbox.topic_hold_copy
SELECT id, (id * 1000 + n)::text::xid8, n, '3', 0, 1, 1, NULL
FROM outbox.topic_hold CROSS JOIN generate_series(1, 10) n WHERE state = 'held';
UPDATE pg_class SET reltuples = 0, relpages = 1000
WHERE relname ~ '^topic_hold' AND relkind = 'r' AND relnamespace = 'outbox'::regnamespace;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_material = off;
SELECT count(*), sum(events), sum(copied) FROM outbox.topic_holds;
SELECT * FROM pg_temp.rows_read('SELECT * FROM outbox.topic_holds');
SELECT * FROM pg_temp.rows_read('SELECT * FROM outbox.relay_status');
SET LOCAL enable_indexscan = off;
SET LOCAL enable_bitmapscan = off;
SELECT relation, read <= 10 * 1000 AS bounded FROM pg_temp.rows_read('SELECT * FROM outbox.topic_holds');
ROLLBACK;

-- who may look
CREATE ROLE outbox_holds_watcher;
SET ROLE outbox_holds_watcher;
SELECT topic FROM outbox.topic_holds;
RESET ROLE;
SELECT outbox.grant_watch('outbox_holds_watcher');
SET ROLE outbox_holds_watcher;
SELECT topic FROM outbox.topic_holds;
SELECT topic FROM outbox.topic_hold;
UPDATE outbox.topic_hold SET state = 'ended';
RESET ROLE;
SELECT outbox.revoke_watch('outbox_holds_watcher');
SELECT outbox.grant_operate('outbox_holds_watcher');
SET ROLE outbox_holds_watcher;
SELECT count(*) FROM outbox.topic_holds;
SELECT count(*) FROM outbox.flow WHERE topic = 'holds.b' AND state = 'held';
RESET ROLE;
DROP OWNED BY outbox_holds_watcher;
DROP ROLE outbox_holds_watcher;
