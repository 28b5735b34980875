-- No setting of a session changes what the functions do.
\getenv sources PG_ABS_SRCDIR
\set script :sources '/sql/session_settings.psql'
SELECT outbox.declare_topic('settings.a');
CREATE TABLE public.kept (run integer, what text, result text);
SET client_min_messages = warning;
SET outbox.allow_dead_letter_edit = on;
\set run 1
\i :script
-- a new session, for what a function has parsed stays parsed
\c -
CREATE SCHEMA evil;
CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'evil'::text $$;
CREATE FUNCTION evil.convert_to(text, name) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT 'evil'::bytea $$;
CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '-infinity'::timestamptz $$;
SET search_path = evil, pg_catalog;
SET standard_conforming_strings = off;
SET escape_string_warning = on;
SET backslash_quote = off;
SET bytea_output = 'escape';
SET DateStyle = 'SQL, DMY';
SET IntervalStyle = 'sql_standard';
SET TimeZone = 'Pacific/Chatham';
SET extra_float_digits = -15;
SET xmloption = 'document';
SET xmlbinary = 'hex';
SET array_nulls = off;
SET transform_null_equals = on;
SET quote_all_identifiers = on;
SET session_replication_role = replica;
SET row_security = off;
SET check_function_bodies = off;
SET plpgsql.extra_errors = 'all';
SET plpgsql.variable_conflict = 'use_variable';
SET plan_cache_mode = 'force_generic_plan';
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_sort = off;
SET constraint_exclusion = on;
SET default_transaction_isolation = 'repeatable read';
SET outbox.allow_dead_letter_edit = on;
SET client_min_messages = warning;
\set run 2
\i :script
RESET search_path;
SELECT what, run, result FROM public.kept k
WHERE NOT EXISTS (SELECT FROM public.kept o WHERE o.what = k.what AND o.run <> k.run AND o.result IS NOT DISTINCT FROM k.result) ORDER BY 1, 2;
SELECT count(*) > 40 AS many, count(*) = 2 * count(DISTINCT what) AS of_both FROM public.kept;
SELECT result FROM public.kept WHERE run = 2 AND what LIKE 'fingerprint%' ORDER BY what;
RESET session_replication_role;
\set VERBOSITY terse
DROP SCHEMA evil CASCADE;
DROP TABLE public.kept;
DELETE FROM outbox.dead_letter WHERE consumer = 'settings';
DELETE FROM outbox.consumer_offset WHERE consumer LIKE 'settings.%';
