-- A command that drops unsent events says how many, or is refused by outbox.drop_unsent.
CREATE DATABASE outbox_dropped;
\set regress_database :DBNAME
\c outbox_dropped
CREATE EXTENSION outbox;
BEGIN;
DROP EXTENSION outbox;
ROLLBACK;
SELECT outbox.declare_topic('dropped', 1);
SELECT count(outbox.emit('dropped', 'k', 'T', '{}')) FROM generate_series(1, 3);
BEGIN;
DROP EXTENSION outbox;
ROLLBACK;
SET outbox.drop_unsent = refuse;
DROP EXTENSION outbox;
\set VERBOSITY terse
DROP EXTENSION IF EXISTS outbox CASCADE;
DROP SCHEMA outbox CASCADE;

-- not by name: with its owner's objects, with the language of its functions, inside a function
RESET outbox.drop_unsent;
CREATE ROLE regress_outbox_owner SUPERUSER;
BEGIN;
SET client_min_messages = error;
DROP EXTENSION outbox;
SET ROLE regress_outbox_owner;
CREATE EXTENSION outbox;
SELECT outbox.declare_topic('dropped', 1);
SELECT count(outbox.emit('dropped', 'k', 'T', '{}')) FROM generate_series(1, 4);
RESET ROLE;
RESET client_min_messages;
SAVEPOINT owned;
DROP OWNED BY regress_outbox_owner;
ROLLBACK TO owned;
-- what is counted is counted as the owner, who could have put anything there
ALTER ROLE regress_outbox_owner NOSUPERUSER;
SET ROLE regress_outbox_owner;
CREATE FUNCTION pg_temp.who() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'read as %', current_user; RETURN true; END $$;
CREATE OR REPLACE VIEW outbox.delivered_batch AS SELECT -1::bigint AS batch_no, '3:3:'::pg_snapshot AS upper, NULL::xid8 AS upper_txid, NULL::bigint AS upper_seq WHERE pg_temp.who();
RESET ROLE;
DROP EXTENSION outbox CASCADE;
SELECT current_user = session_user AS myself, current_setting('search_path') AS path;
ROLLBACK;
DROP ROLE regress_outbox_owner;
BEGIN;
DROP EXTENSION plpgsql CASCADE;
ROLLBACK;
DO $$ BEGIN
	DROP EXTENSION outbox;
	RAISE EXCEPTION 'back';
EXCEPTION WHEN raise_exception THEN
	RAISE NOTICE 'it is %', (SELECT extname FROM pg_extension WHERE extname = 'outbox');
END $$;

-- the transaction's own events, and dead letters of the relay
BEGIN;
SELECT outbox.emit('dropped', 'k', 'T', '{}') IS NOT NULL AS emitted;
INSERT INTO outbox.dead_letter (origin, topic, event_id, error_class, error_message, state)
	SELECT 'relay', 'dropped', gen_random_uuid(), 'record', 'm', s FROM unnest('{open,held,resolved}'::text[]) s;
\set VERBOSITY default
DROP EXTENSION outbox;
\set VERBOSITY terse
ROLLBACK;

-- what a topic hold has left out of delivered batches
BEGIN;
INSERT INTO outbox.batch
SELECT n, 0, gen_random_uuid(), '3:3:', pg_current_snapshot(), NULL, NULL, NULL, NULL, 0, 0, pg_current_xact_id(), 1, 0, 0,
	clock_timestamp()
FROM generate_series(0, 2) n;
INSERT INTO outbox.topic_hold (topic, cause, reason, state)
	SELECT 'dropped.' || s, 'operator', 'tested', s FROM unnest('{held,ended}'::text[]) s;
INSERT INTO outbox.topic_hold_batch
SELECT h.id, n, '3:3:', '3:3:', NULL, NULL, NULL, NULL, 9, 1, now() FROM outbox.topic_hold h CROSS JOIN generate_series(1, 2) n;
INSERT INTO outbox.topic_hold_copy
SELECT h.id, (100 + h.id)::text::xid8, 1, '3', 0, 2, 1, NULL FROM outbox.topic_hold h;
DROP EXTENSION outbox;
ROLLBACK;

-- what does not drop it does not count
CREATE EXTENSION tcn;
DROP EXTENSION tcn CASCADE;
CREATE ROLE regress_outbox_owner;
DROP OWNED BY regress_outbox_owner;
DROP ROLE regress_outbox_owner;

-- DROP DATABASE: what shared memory knows
\c :regress_database
\set VERBOSITY default
SET outbox.drop_unsent = refuse;
DROP DATABASE outbox_dropped;
RESET outbox.drop_unsent;
\c outbox_dropped

-- tables that cannot be read keep nobody from dropping them, and DROP and CREATE forget what was
SET outbox.drop_unsent = refuse;
ALTER TABLE outbox.batch RENAME TO gone;
ALTER TABLE outbox.event RENAME COLUMN txid TO gone;
DROP EXTENSION outbox;
CREATE EXTENSION outbox;
SELECT state, hold_reason, last_error, backlog_bytes FROM outbox.relay_slot();
BEGIN;
DROP EXTENSION IF EXISTS outbox;
CREATE EXTENSION outbox;
\set VERBOSITY terse
PREPARE TRANSACTION 'created';
\c :regress_database
SET outbox.drop_unsent = refuse;
DROP DATABASE outbox_dropped;
