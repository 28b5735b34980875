-- What became of a flow in this database: outbox.flow.
SELECT outbox.declare_topic('flow.test', 1);
SET outbox.correlation_id = 'flow-1';
SELECT outbox.emit('flow.test', 'a', 'First', '1') IS NOT NULL AS emitted;
SELECT outbox.emit('flow.test', 'b', 'Refused', '2') IS NOT NULL AS emitted;
SET outbox.correlation_id = 'flow-2';
SELECT outbox.emit('flow.test', 'c', 'Other', '3') IS NOT NULL AS emitted;
RESET outbox.correlation_id;
SELECT outbox.emit_bytes('flow.test', '\x00', 'Bytes', NULL, NULL,
	ARRAY[ROW('CorrelationId', '\x00ff')]::outbox.header[]) IS NOT NULL AS emitted;
-- as the relay writes it, and as consumers do
INSERT INTO outbox.dead_letter (origin, topic, key, value, headers, event_id, event_type, txid, seq, state,
	error_class, error_message)
SELECT 'relay', topic, key, payload, headers, id, type, txid, seq, 'open', 'refused', 'too large'
FROM outbox.event WHERE topic = 'flow.test' AND type = 'Refused';
SELECT outbox.dead_letter_add('flow-consumer', 'elsewhere', 0, 7, 'k', '{}', NULL, NULL,
	'00000000-0000-7000-8000-000000000007', 'Arrived', 'flow-1', 'retrying', 'record', 'P0001', 'no', 60000) IS NOT NULL AS added;
SELECT source, state, topic, key, type, consumer, event_id IS NOT NULL AS known, at <= clock_timestamp() AS timed
FROM outbox.flow WHERE correlation_id = 'flow-1' ORDER BY at;
SELECT correlation_id, source, key, type FROM outbox.flow
WHERE topic = 'flow.test' AND correlation_id IS DISTINCT FROM 'flow-1' ORDER BY at;

-- a batch that has them all makes them sent, the refused one not
BEGIN;
INSERT INTO outbox.batch
SELECT 0, 0, gen_random_uuid(), '3:3:', pg_current_snapshot(), NULL, NULL, NULL, NULL, 0, 0,
	pg_current_xact_id(), 1, 0, 0, clock_timestamp();
SELECT state, type FROM outbox.flow WHERE topic = 'flow.test' AND source = 'event' ORDER BY at;
-- no event is asked of topic holds where there is none
SET LOCAL track_functions = 'all';
SELECT count(state) FROM outbox.flow WHERE topic = 'flow.test' AND source = 'event';
SELECT coalesce(pg_stat_get_xact_function_calls('outbox.topic_hold_event'::regproc), 0) AS calls;
INSERT INTO outbox.topic_hold_batch VALUES (1, 0, '3:3:', '4:4:', NULL, NULL, NULL, NULL, 1, 1, clock_timestamp());
SELECT count(state) FROM outbox.flow WHERE topic = 'flow.test' AND source = 'event';
SELECT pg_stat_get_xact_function_calls('outbox.topic_hold_event'::regproc) > 0 AS called;
ROLLBACK;
DELETE FROM outbox.dead_letter WHERE topic IN ('flow.test', 'elsewhere');

-- a foreign traceparent that is none does not keep a dead letter from its topic
SELECT outbox.declare_topic('strange', 1);
SELECT outbox.dead_letter_add('flow-consumer', 'strange', 0, 8, 'k', '{}', headers, NULL,
	'00000000-0000-7000-8000-000000000008', 'Strange', NULL, 'open', 'record', 'P0001', 'no', 0) IS NOT NULL AS added
FROM (VALUES ('\x02167472616365706172656e74086e6f6e65'::bytea)) h (headers);
SELECT topic, type FROM outbox.event WHERE topic = 'strange.DLT';
SELECT reason FROM outbox.dead_letter WHERE topic = 'strange';
DELETE FROM outbox.dead_letter WHERE topic = 'strange';
