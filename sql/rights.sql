-- What PUBLIC has, what NULL says, and whose a topic's grant is when roles come and go.
\set VERBOSITY default
CREATE ROLE regress_rights_a;
CREATE ROLE regress_rights_b;
CREATE ROLE regress_rights_all;
SELECT outbox.declare_topic('rights.a');
SELECT outbox.declare_topic('rights.b');
SELECT outbox.grant_topic('rights.a', 'regress_rights_all'), outbox.grant_consume('regress_rights_all'),
	outbox.grant_watch('regress_rights_all'), outbox.grant_operate('regress_rights_all');

-- Library and objects are of one version, which whoever has a grant may ask for.
SET ROLE regress_rights_all;
SELECT outbox.version() = e.extversion AS same FROM pg_extension e WHERE e.extname = 'outbox';
RESET ROLE;
-- No object of the extension gives PUBLIC anything, whatever kind it is of: by its privileges, its columns' or the initial ones.
WITH object AS (
	SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
	WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'outbox' AND d.deptype = 'e'
	UNION SELECT 'pg_class'::regclass, c.oid FROM pg_class c WHERE c.relnamespace = 'outbox'::regnamespace
	UNION SELECT 'pg_type'::regclass, t.oid FROM pg_type t
	WHERE t.typnamespace = 'outbox'::regnamespace AND t.typcategory <> 'A'),
privileges AS (
	SELECT o.*, coalesce(n.nspacl, acldefault('n', n.nspowner)) AS acl FROM object o JOIN pg_namespace n ON o.classid = 'pg_namespace'::regclass AND n.oid = o.objid
	UNION ALL SELECT o.*, coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))
	FROM object o JOIN pg_class c ON o.classid = 'pg_class'::regclass AND c.oid = o.objid
	UNION ALL SELECT o.*, a.attacl FROM object o JOIN pg_attribute a ON o.classid = 'pg_class'::regclass AND a.attrelid = o.objid
	UNION ALL SELECT o.*, coalesce(p.proacl, acldefault('f', p.proowner)) FROM object o JOIN pg_proc p ON o.classid = 'pg_proc'::regclass AND p.oid = o.objid
	UNION ALL SELECT o.*, coalesce(t.typacl, acldefault('T', t.typowner)) FROM object o JOIN pg_type t ON o.classid = 'pg_type'::regclass AND t.oid = o.objid
	UNION ALL SELECT o.*, coalesce(f.fdwacl, acldefault('F', f.fdwowner)) FROM object o JOIN pg_foreign_data_wrapper f ON o.classid = 'pg_foreign_data_wrapper'::regclass AND f.oid = o.objid
	UNION ALL SELECT o.*, coalesce(s.srvacl, acldefault('S', s.srvowner)) FROM object o JOIN pg_foreign_server s ON o.classid = 'pg_foreign_server'::regclass AND s.oid = o.objid
	UNION ALL SELECT o.*, i.initprivs FROM object o JOIN pg_init_privs i ON i.classoid = o.classid AND i.objoid = o.objid)
SELECT pg_describe_object(p.classid, p.objid, 0), a.privilege_type FROM privileges p, aclexplode(p.acl) a WHERE a.grantee = 0
UNION ALL
-- What kinds were looked at: another one needs a line above; these have no privileges.
SELECT DISTINCT 'not looked at: ' || o.classid::regclass, NULL FROM object o
WHERE o.classid::regclass::text NOT IN ('pg_namespace', 'pg_class', 'pg_proc', 'pg_type', 'pg_foreign_data_wrapper', 'pg_foreign_server', 'pg_cast');

-- So nobody stands in the way of DROP EXTENSION with a column or an argument of its types.
SET ROLE regress_rights_all;
CREATE TEMP TABLE blocks (it outbox.event);
CREATE TEMP TABLE blocks (it outbox.topic[]);
CREATE TEMP TABLE blocks (it outbox.relay_status);
CREATE TEMP TABLE blocks (it outbox.grantee);
CREATE FUNCTION pg_temp.blocks(outbox.dead_letter) RETURNS integer LANGUAGE sql AS 'SELECT 1';
RESET ROLE;

-- NULL where it means nothing is said, not passed over in silence.
CREATE FUNCTION pg_temp.try(call text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'SELECT outbox.' || call;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
CREATE TEMP TABLE calls AS SELECT call, n FROM unnest(ARRAY[
	$$emit(NULL, 'k', 'T', '{}')$$, $$emit('rights.a', 'k', NULL, '{}')$$,
	$$emit_json(NULL, 'k', 'T', '{}')$$, $$emit_json('rights.a', 'k', NULL, '{}')$$,
	$$emit_bytes(NULL, 'k', 'T', '')$$, $$emit_bytes('rights.a', 'k', NULL, '')$$,
	$$declare_topic(NULL)$$, $$declare_topic('rights.a', NULL)$$,
	$$grant_topic(NULL, 'regress_rights_a')$$, $$grant_topic('rights.a', NULL)$$,
	$$revoke_topic(NULL, 'regress_rights_a')$$, $$revoke_topic('rights.a', NULL)$$,
	$$grant_consume(NULL)$$, $$grant_watch(NULL)$$, $$grant_operate(NULL)$$,
	$$revoke_consume(NULL)$$, $$revoke_watch(NULL)$$, $$revoke_operate(NULL)$$,
	$$adopt(NULL)$$,
	$$claim(NULL, gen_random_uuid())$$, $$claim('c', NULL)$$, $$claim_many(NULL, '{}')$$, $$claim_many('c', NULL)$$, $$claim_many('c', '{NULL}')$$,
	$$idempotency_maintain(NULL)$$,
	$$consumer_offsets(NULL)$$, $$dead_letter_counts(NULL)$$, $$consumed_headers(NULL)$$, $$wire_text(NULL, 1)$$, $$dead_letter_unpublished(NULL)$$, $$consumer_is_new(NULL, '{}')$$, $$consumer_is_new('c', NULL)$$,
	$$advance_offset(NULL, 't', 0, 1, 2)$$, $$advance_offset('c', NULL, 0, 1, 2)$$, $$advance_offset('c', 't', NULL, 1, 2)$$, $$advance_offset('c', 't', 0, 1, NULL)$$,
	$$begin_batch(NULL, '{t}', '{0}', '{1}', '{2}', '{1}', '{1}', '{NULL}', '{00000000-0000-7000-8000-000000000001}', '{t}')$$,
	$$begin_batch('c', '{t}', '{0}', '{1}', '{2}', '{1}', '{1}', '{NULL}', '{00000000-0000-7000-8000-000000000001}', NULL)$$,
	$$begin_batch('c', '{t}', '{0}', '{1}', '{2}', '{1}', '{1}', '{NULL}', '{00000000-0000-7000-8000-000000000001}', '{t}', NULL, NULL)$$,
	$$trim_batch(NULL, '{t}', '{0}', '{1}', '{}')$$, $$trim_batch('c', NULL, '{0}', '{1}', '{}')$$, $$trim_batch('c', '{t}', '{0}', '{1}', NULL)$$,
	$$take_partition(NULL, 't', 0, 'me')$$, $$take_partition('c', 't', 0, NULL)$$,
	$$note_trouble(NULL, 't', 0, 1, gen_random_uuid(), 0, 0, NULL, 'why', false, true, 0)$$, $$note_trouble('c', 't', 0, 1, NULL, 0, 0, NULL, 'why', false, true, 0)$$,
	$$partition_trouble('c', NULL, 0)$$, $$end_trouble('c', 't', 0, NULL)$$, $$dead_letter_troubled(NULL, NULL, 'why', false, 0)$$,
	$$dead_letter_next_run(NULL, NULL, 1)$$, $$dead_letter_next_run('c', NULL, 1, NULL)$$, $$dead_letter_begin_run(NULL, 1, '{}')$$, $$dead_letter_resolve_run(NULL)$$,
	$$note_attempt(NULL, 't', 0, 'me', 1, gen_random_uuid())$$, $$note_attempt('c', 't', 0, 'me', NULL, gen_random_uuid())$$, $$note_attempt('c', 't', 0, 'me', 1, NULL)$$,
	$$consumer_anchors(NULL, '{t}', '{0}')$$, $$consumer_anchors('c', NULL, '{0}')$$, $$consumer_anchors('c', '{t}', NULL)$$,
	$$keep_anchor(NULL, 't', 0, 0, 1, 1, 1)$$, $$keep_anchor('c', 't', 0, NULL, 1, 1, 1)$$, $$keep_anchor('c', 't', 0, 0, 1, 1, 1, NULL)$$,
	$$rewind_offset(NULL, 't', 0, 1, 0, 0)$$, $$rewind_offset('c', 't', 0, NULL, 0, 0)$$, $$rewind_offset('c', 't', 0, 1, NULL, 0)$$, $$rewind_offset('c', 't', 0, 1, 0, NULL)$$,
	$$leave_partition(NULL, 't', 0, 'me', true)$$, $$leave_partition('c', 't', 0, 'me', NULL)$$,
	$$begin_calls(NULL, 'me', '{}', '{}', '{}', '{}', '{}', '{}', '{}', true, NULL, '{}', '{}')$$,
	$$begin_calls('c', NULL, '{}', '{}', '{}', '{}', '{}', '{}', '{}', true, NULL, '{}', '{}')$$,
	$$begin_calls('c', 'me', '{}', '{}', '{}', '{}', '{}', '{}', '{}', NULL, NULL, '{}', '{}')$$,
	$$attempt_calls(NULL, 't', 0)$$, $$attempt_calls('c', 't', NULL)$$, $$dead_letter_claimed(NULL, gen_random_uuid())$$,
	$$dead_letter_next(NULL)$$, $$dead_letter_put_back(NULL)$$, $$dead_letter_put_back(1, NULL)$$,
	$$dead_letter_begin(NULL, 1)$$, $$dead_letter_begin(1, NULL)$$, $$dead_letter_resolve(NULL)$$,
	$$dead_letter_failed(NULL, 1, false, 3, 10, 'record', NULL, 'm')$$, $$dead_letter_failed(1, NULL, false, 3, 10, 'record', NULL, 'm')$$,
	$$dead_letter_failed(1, 1, NULL, 3, 10, 'record', NULL, 'm')$$, $$dead_letter_failed(1, 1, false, NULL, 10, 'record', NULL, 'm')$$,
	$$dead_letter_failed(1, 1, false, 3, NULL, 'record', NULL, 'm')$$, $$dead_letter_failed(1, 1, false, 3, 10, NULL, NULL, 'm')$$,
	$$dead_letter_failed(1, 1, false, 3, 10, 'record', NULL, NULL)$$,
	$$dead_letter_keys(NULL, 1)$$, $$dead_letter_keys(true, NULL)$$,
	$$dead_letter_discard(1, NULL)$$, $$dead_letter_purge(NULL)$$,
	$$replay(NULL, 'infinity')$$, $$replay('-infinity', NULL)$$, $$replay('-infinity', 'infinity', reprocess => NULL)$$,
	$$replay('-infinity', 'infinity', rate => NULL)$$, $$replay('-infinity', 'infinity', dry_run => NULL)$$,
	$$dead_letter_replay(NULL)$$, $$dead_letter_discard(NULL, 'why')$$, $$dead_letter_restore(NULL)$$, $$dead_letter_note(NULL, 'n')$$,
	$$consumer_skip(NULL, 't', 0, 1, gen_random_uuid(), 'why')$$, $$consumer_skip('c', 't', 0, 1, gen_random_uuid(), NULL)$$,
	$$replay_pause(NULL)$$, $$replay_resume(NULL)$$, $$replay_cancel(NULL, 'why')$$,
	$$topic_hold(NULL, 'why')$$, $$topic_hold('rights', NULL)$$, $$topic_release(NULL)$$,
	$$dead_letter_add(NULL, 't', 0, 1, NULL, NULL, NULL, NULL, gen_random_uuid(), NULL, NULL, 'open', 'record', NULL, 'm', 0)$$,
	$$dead_letter_add('c', 't', 0, NULL, NULL, NULL, NULL, NULL, gen_random_uuid(), NULL, NULL, 'open', 'record', NULL, 'm', 0)$$,
	-- a field that is not there
	$$required('{"a": 1}', NULL)$$,
	-- NULL is an answer here
	$$bytes_text(NULL)$$, $$headers_decode(NULL)$$, $$headers_readable(NULL)$$, $$header_value(NULL, 'h')$$, $$name_text(NULL)$$,
	$$topic_hold_event(NULL, gen_random_uuid(), '3', 0)$$, $$set_context(NULL, NULL, NULL)$$]) WITH ORDINALITY c (call, n);
SELECT call, pg_temp.try(call) FROM calls ORDER BY n;
-- A new function needs its calls above; these take NULL as a filter for all, or have it tested with what else they refuse.
SELECT p.proname FROM pg_proc p
WHERE p.pronamespace = 'outbox'::regnamespace AND p.pronargs > 0
	AND has_function_privilege('regress_rights_all', p.oid, 'EXECUTE')
	AND NOT EXISTS (SELECT FROM calls c WHERE starts_with(c.call, p.proname || '('))
ORDER BY 1;
-- Those that answer NULL with NULL, of what a role may call.
SELECT p.proname FROM pg_proc p
WHERE p.pronamespace = 'outbox'::regnamespace AND p.proisstrict AND p.pronargs > 0
	AND has_function_privilege('regress_rights_all', p.oid, 'EXECUTE') ORDER BY 1;

-- Whose a grant is: it follows a rename.
SELECT outbox.grant_topic('rights.a', 'regress_rights_a'), outbox.grant_topic('rights.b', 'regress_rights_b');
ALTER ROLE regress_rights_b RENAME TO "regress_Rights b";
SELECT topic, grantee FROM outbox.topic_grant WHERE topic LIKE 'rights.%' ORDER BY 1, 2::text;
SET ROLE "regress_Rights b";
SELECT outbox.emit('rights.b', 'k', 'T', '{}') IS NOT NULL AS emitted;
RESET ROLE;

-- What a dropped role leaves is nobody's: neither the next role's of that name,
SELECT oid::text AS number FROM pg_roles WHERE rolname = 'regress_rights_a' \gset
DROP OWNED BY regress_rights_a;
DROP ROLE regress_rights_a;
SELECT topic, grantee::text = :'number' AS by_number FROM outbox.topic_grant WHERE grantee = :number::oid;
CREATE ROLE regress_rights_a;
GRANT USAGE ON SCHEMA outbox TO regress_rights_a;
GRANT EXECUTE ON FUNCTION outbox.emit TO regress_rights_a;
SET ROLE regress_rights_a;
SELECT outbox.emit('rights.a', 'k', 'T', '{}');
RESET ROLE;
-- nor that of the next one with its number, even when that one gets rights of its own.
INSERT INTO pg_authid (oid, rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit)
VALUES (:number, 'regress_rights_heir', false, true, false, false, false, false, false, -1);
GRANT EXECUTE ON FUNCTION outbox.emit TO "regress_rights_heir";
GRANT "regress_rights_heir" TO "regress_Rights b";
SET ROLE "regress_Rights b";
SELECT outbox.emit('rights.a', 'k', 'T', '{}');
RESET ROLE;
SELECT outbox.grant_consume('regress_rights_heir');
SET ROLE "regress_Rights b";
SELECT outbox.emit('rights.a', 'k', 'T', '{}');
RESET ROLE;
SELECT outbox.grant_topic('rights.b', 'regress_rights_heir');
SELECT topic FROM outbox.topic_grant WHERE grantee = :number::oid;
SET ROLE regress_rights_heir;
SELECT outbox.emit('rights.b', 'k', 'T', '{}') IS NOT NULL AS emitted;
SELECT outbox.emit('rights.a', 'k', 'T', '{}');
RESET ROLE;

-- What a dump brings: roles that exist have the right at once, one that is missing is named, a number is nobody.
CREATE ROLE regress_rights_loaded;
COPY outbox.topic_grant (topic, grantee) FROM stdin;
rights.a	regress_rights_gone
rights.a	regress_rights_loaded
rights.a	"regress_Rights gone"
rights.a	16384
rights.a	-
rights.b	regress_rights_loaded
\.
SELECT topic, grantee FROM outbox.topic_grant WHERE grantee::text IN ('0', '-', '16384', 'regress_rights_loaded') ORDER BY 1;
SET ROLE regress_rights_loaded;
SELECT outbox.emit('rights.a', 'k', 'T', '{}') IS NOT NULL AS emitted;
RESET ROLE;
INSERT INTO outbox.topic_grant (topic, grantee) VALUES ('rights.a', 'a.b');
INSERT INTO outbox.topic_grant (topic, grantee) VALUES ('rights.a', '4000000000'::oid::regrole);
INSERT INTO outbox.topic_grant (topic, grantee) VALUES ('rights.a', '');
\set VERBOSITY terse
INSERT INTO outbox.topic_grant (topic, grantee) VALUES ('rights.a', NULL);
-- A row that is changed by hand brings the same.
CREATE ROLE regress_rights_next;
UPDATE outbox.topic_grant SET grantee = 'regress_rights_next' WHERE topic = 'rights.b' AND grantee::text = 'regress_rights_loaded';
SET ROLE regress_rights_next;
SELECT outbox.emit('rights.b', 'k', 'T', '{}') IS NOT NULL AS emitted;
RESET ROLE;
UPDATE outbox.topic_grant SET grantee = 'regress_rights_gone' WHERE grantee::text = 'regress_rights_next';
UPDATE outbox.topic_grant SET grantee = NULL WHERE grantee::text = 'regress_rights_next';
\set VERBOSITY default
UPDATE outbox.topic_grant SET grantee = 'regress_rights_loaded' WHERE grantee::text = 'regress_rights_next';
DROP OWNED BY regress_rights_next;
DROP ROLE regress_rights_next;
-- Binary forms are names, too.
SELECT topic, convert_from(outbox.grantee_send(grantee), 'UTF8') AS sent FROM outbox.topic_grant WHERE topic LIKE 'rights.%' ORDER BY 1, 2;
SELECT current_setting('data_directory') || '/rights.copy' AS file \gset
CREATE TEMP TABLE copied (LIKE outbox.topic_grant);
COPY (SELECT * FROM outbox.topic_grant WHERE topic LIKE 'rights.%') TO :'file' (FORMAT binary);
COPY copied FROM :'file' (FORMAT binary);
SELECT count(*) > 1 AS some, count(*) FILTER (WHERE c.grantee::oid = g.grantee::oid) = count(*) AS same
FROM copied c JOIN outbox.topic_grant g USING (topic, granted_at, granted_by, grantee);

-- What is dumped: the rows that count.
SELECT outbox.grant_topic('rights.a', 'regress_rights_a');
DROP OWNED BY regress_rights_a;
DROP ROLE regress_rights_a;
SELECT string_agg(format('SELECT topic, grantee FROM outbox.topic_grant %s ORDER BY 1, 2::text', c.condition), '') AS dump
FROM pg_extension e, unnest(e.extconfig, e.extcondition) c (relation, condition)
WHERE e.extname = 'outbox' AND c.relation = 'outbox.topic_grant'::regclass \gset
:dump;

DROP OWNED BY regress_rights_all, "regress_Rights b", regress_rights_heir, regress_rights_loaded;
DROP ROLE regress_rights_all, "regress_Rights b", regress_rights_heir, regress_rights_loaded;
DELETE FROM outbox.topic_grant WHERE topic LIKE 'rights.%';

-- Whom ALTER DEFAULT PRIVILEGES gives what is created has nothing of the extension.
SELECT current_database() AS home \gset
CREATE ROLE regress_rights_app;
CREATE DATABASE regress_rights;
\c regress_rights
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO regress_rights_app, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_rights_app, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_rights_app WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_rights_app;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO regress_rights_app;
CREATE EXTENSION outbox;
SELECT o.object, a.grantee::regrole, a.privilege_type
FROM (SELECT nspname::text, nspacl, nspowner FROM pg_namespace WHERE nspname = 'outbox'
	UNION ALL SELECT oid::regclass::text, relacl, relowner FROM pg_class WHERE relnamespace = 'outbox'::regnamespace
	UNION ALL SELECT oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner)), proowner FROM pg_proc WHERE pronamespace = 'outbox'::regnamespace
	UNION ALL SELECT oid::regtype::text, coalesce(typacl, acldefault('T', typowner)), typowner FROM pg_type
	WHERE typnamespace = 'outbox'::regnamespace AND typcategory <> 'A'
	UNION ALL SELECT pg_describe_object(i.classoid, i.objoid, 0), i.initprivs, 10 FROM pg_init_privs i
	WHERE i.privtype = 'e') o (object, acl, owner)
	CROSS JOIN LATERAL aclexplode(o.acl) a WHERE a.grantee <> o.owner ORDER BY 1 LIMIT 10;
SET ROLE regress_rights_app;
SELECT outbox.grant_topic('*', 'regress_rights_app');
RESET ROLE;
\c :home
SET client_min_messages = error;
DROP DATABASE regress_rights;
DROP ROLE regress_rights_app;
RESET client_min_messages;
