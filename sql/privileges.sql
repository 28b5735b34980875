-- Who may do what: every role tries what it may and what it may not.
\set VERBOSITY default
CREATE ROLE regress_outbox_writer;
CREATE ROLE regress_outbox_member;
CREATE ROLE regress_outbox_consumer;
CREATE ROLE "regress_Outbox operator";
CREATE ROLE regress_outbox_nobody;
GRANT regress_outbox_writer TO regress_outbox_member;
SELECT outbox.declare_topic('privileges.a');
SELECT outbox.declare_topic('privileges.b');
SELECT outbox.grant_consume('regress_outbox_consumer');
SELECT outbox.grant_operate('"regress_Outbox operator"');

-- PUBLIC has nothing.
SELECT p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = 'outbox'::regnamespace AND has_function_privilege('regress_outbox_nobody', p.oid, 'EXECUTE');
SELECT c.oid::regclass FROM pg_class c
WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind <> 'S'
	AND (has_any_column_privilege('regress_outbox_nobody', c.oid, 'SELECT, INSERT, UPDATE')
		OR has_table_privilege('regress_outbox_nobody', c.oid, 'DELETE, TRUNCATE'));
SELECT has_schema_privilege('regress_outbox_nobody', 'outbox', 'USAGE') AS schema,
	has_type_privilege('regress_outbox_nobody', 'outbox.header', 'USAGE') AS type,
	has_type_privilege('regress_outbox_nobody', 'outbox.consumed_event', 'USAGE') AS event,
	has_type_privilege('regress_outbox_consumer', 'outbox.consumed_event', 'USAGE')
		AND has_type_privilege('regress_outbox_consumer', 'outbox.consumed_bytes', 'USAGE') AS consumer,
	has_sequence_privilege('regress_outbox_nobody', 'outbox.event_seq', 'USAGE, SELECT, UPDATE') AS sequence;

-- Whatever looks names up has a fixed search path; C functions without one do not look up any.
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'outbox'::regnamespace AND (p.prosecdef OR l.lanname <> 'c')
	AND ('search_path=pg_catalog, pg_temp' = ANY (p.proconfig)) IS NOT TRUE;

SET ROLE regress_outbox_nobody;
SELECT outbox.emit('privileges.a', 'k', 'T', '{}');
RESET ROLE;

-- The operator grants; the writer emits to its topic and that one's dead-letter topic only.
SET ROLE "regress_Outbox operator";
SELECT outbox.grant_topic('privileges.a', 'regress_outbox_writer');
SELECT outbox.grant_topic('privileges.a', 'regress_outbox_writer');
SELECT outbox.declare_topic('privileges.c');
SELECT outbox.emit('privileges.a', 'k', 'T', '{}');
INSERT INTO outbox.topic_grant (topic, grantee) VALUES ('*', 'regress_outbox_nobody');
SELECT outbox.grant_operate('regress_outbox_nobody');
RESET ROLE;

SET ROLE regress_outbox_writer;
SELECT outbox.emit('privileges.a', 'k', 'T', '{}') IS NOT NULL AS emitted;
SELECT outbox.emit_json('privileges.a', 'k', 'T', '{}') IS NOT NULL AS emitted;
SELECT outbox.emit_bytes('privileges.a', 'k', 'T', '', NULL, ARRAY[('a', 'b')]::outbox.header[]) IS NOT NULL AS emitted;
INSERT INTO outbox.outgoing VALUES ('privileges.a', 'k', 'T', '{}');
SELECT outbox.emit('privileges.a.DLT', 'k', 'T', '{}') IS NOT NULL AS emitted;
SELECT outbox.emit('privileges.b', 'k', 'T', '{}');
SELECT outbox.emit('privileges.b.DLT', 'k', 'T', '{}');
INSERT INTO outbox.outgoing VALUES ('privileges.b', 'k', 'T', '{}');
SELECT * FROM outbox.event;
INSERT INTO outbox.event SELECT;
INSERT INTO outbox.event_0 SELECT;
SELECT nextval('outbox.event_seq');
SELECT outbox.declare_topic('privileges.d');
SELECT outbox.grant_topic('privileges.b', 'regress_outbox_writer');
SELECT outbox.claim('c', '00000000-0000-7000-8000-000000000001');
SELECT outbox.start_relay();
SELECT * FROM outbox.relay_status;
RESET ROLE;

-- by membership, until that ends
SET ROLE regress_outbox_member;
SELECT outbox.emit('privileges.a', 'k', 'T', '{}') IS NOT NULL AS emitted;
RESET ROLE;
ALTER ROLE regress_outbox_member NOINHERIT;
REVOKE regress_outbox_writer FROM regress_outbox_member;
GRANT regress_outbox_writer TO regress_outbox_member;	-- as of now, from 16 on
SELECT outbox.grant_topic('privileges.b', 'regress_outbox_member');
SET ROLE regress_outbox_member;
SELECT outbox.emit('privileges.b', 'k', 'T', '{}') IS NOT NULL AS emitted;
SELECT outbox.emit('privileges.a', 'k', 'T', '{}');
RESET ROLE;
SELECT outbox.revoke_topic('privileges.b', 'regress_outbox_member');

-- every topic
SELECT outbox.grant_topic('*', 'regress_outbox_writer');
SET ROLE regress_outbox_writer;
SELECT outbox.emit('privileges.b', 'k', 'T', '{}') IS NOT NULL AS emitted;
RESET ROLE;
SELECT outbox.revoke_topic('*', 'regress_outbox_writer');
SET ROLE regress_outbox_writer;
SELECT outbox.emit('privileges.b', 'k', 'T', '{}');
SELECT outbox.emit('privileges.a', 'k', 'T', '{}') IS NOT NULL AS emitted;
RESET ROLE;

-- With the last topic goes the right to call emit.
SELECT outbox.revoke_topic('privileges.a', 'regress_outbox_writer');
SELECT outbox.revoke_topic('privileges.a', 'regress_outbox_writer');
SET ROLE regress_outbox_writer;
SELECT outbox.emit('privileges.a', 'k', 'T', '{}');
INSERT INTO outbox.outgoing VALUES ('privileges.a', 'k', 'T', '{}');
RESET ROLE;
-- The watcher looks, and does nothing.
SELECT outbox.grant_watch('regress_outbox_member');
SET ROLE regress_outbox_member;
SELECT count(*) >= 0 AS seen FROM outbox.relay_status;
SELECT count(*) >= 0 AS seen FROM outbox.databases;
SELECT count(*) >= 0 AS seen FROM outbox.backlog;
SELECT count(*) >= 0 AS seen FROM outbox.batches;
SELECT count(*) >= 0 AS seen FROM outbox.dead_letter_groups;
SELECT count(*) >= 0 AS seen FROM outbox.dead_letter_depth;
SELECT count(key) >= 0 AS seen FROM outbox.replays;
SELECT outbox.stop_relay();
SELECT * FROM outbox.dead_letters;
RESET ROLE;
SELECT outbox.revoke_watch('regress_outbox_member');
SET ROLE regress_outbox_member;
SELECT count(*) FROM outbox.dead_letter_depth;
RESET ROLE;
SELECT outbox.grant_topic('a b', 'regress_outbox_writer');
SELECT outbox.grant_topic('__x', 'regress_outbox_writer');

-- The consumer claims without rights on the table.
SET ROLE regress_outbox_consumer;
SELECT outbox.claim('privileges', '00000000-0000-7000-8000-000000000001') AS first;
SELECT outbox.claim_many('privileges', '{00000000-0000-7000-8000-000000000001}') AS first;
SELECT * FROM outbox.idempotency;
SELECT outbox.emit('privileges.a', 'k', 'T', '{}');
-- What it dead-letters goes to the dead-letter topic, whatever it asks for.
SELECT outbox.dead_letter_add('privileges', 'privileges.a', 0, 1, 'k', 'v', NULL, NULL,
	'00000000-0000-7000-8000-000000000001', 'T', NULL, 'open', 'record', NULL, 'forged', 0, 1, false, '.other');
SELECT outbox.dead_letter_add('privileges', 'privileges.a', 0, 1, 'forged', 'v', NULL, NULL,
	'00000000-0000-7000-8000-000000000001', 'T', NULL, 'open', 'record', NULL, 'seeded', 0) IS NOT NULL AS added;
RESET ROLE;
SELECT topic FROM outbox.event WHERE key = 'forged';
DELETE FROM outbox.dead_letter WHERE consumer = 'privileges';
DELETE FROM outbox.idempotency WHERE consumer = 'privileges';

DROP OWNED BY regress_outbox_writer, regress_outbox_member, regress_outbox_consumer,
	"regress_Outbox operator", regress_outbox_nobody;
DROP ROLE regress_outbox_writer, regress_outbox_member, regress_outbox_consumer,
	"regress_Outbox operator", regress_outbox_nobody;
