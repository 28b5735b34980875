-- With a publication of every table, what deletes and updates goes on.
CREATE DATABASE outbox_published;
\set regress_database :DBNAME
\c outbox_published
SET client_min_messages = error;
CREATE EXTENSION outbox;
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA outbox WITH (publish_via_partition_root);

-- Every table has an identity: its primary key, or the whole row.
SELECT c.oid::regclass FROM pg_class c
WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind IN ('r', 'p') AND c.relreplident <> 'f'
	AND NOT (c.relreplident = 'd' AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))
	AND NOT (c.relreplident = 'i' AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident));
-- Leaves and roots have the same one, whichever of the two a publication names.
SELECT l.oid::regclass FROM pg_inherits h JOIN pg_class l ON l.oid = h.inhrelid JOIN pg_class r ON r.oid = h.inhparent
WHERE r.relnamespace = 'outbox'::regnamespace AND r.relkind = 'p' AND l.relreplident <> r.relreplident;

-- UPDATE and DELETE of every table pass the check, which comes before any row and any trigger;
-- those that are insert-only refuse for their own reason.
DO $$
DECLARE
	published regclass;
	first_column name;
BEGIN
	FOR published IN SELECT c.oid FROM pg_class c
			WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind IN ('r', 'p') LOOP
		first_column := (SELECT attname FROM pg_attribute
			WHERE attrelid = published AND attnum > 0 AND attidentity = '' AND attgenerated = '' ORDER BY attnum LIMIT 1);
		BEGIN
			EXECUTE format('DELETE FROM %s WHERE false', published);
			EXECUTE format('DELETE FROM %s', published);
			EXECUTE format('UPDATE %1$s SET %2$I = %2$I', published, first_column);
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
			IF SQLERRM LIKE '%replica identity%' THEN
				RAISE;
			END IF;
		END;
	END LOOP;
END
$$;
INSERT INTO outbox.installation (id) VALUES (gen_random_uuid());

-- topics and grants
CREATE ROLE regress_outbox_published;
SELECT outbox.declare_topic('published', 1);
SELECT outbox.declare_topic('published', 2);
SELECT outbox.grant_topic('published', 'regress_outbox_published');
SELECT outbox.revoke_topic('published', 'regress_outbox_published');

-- claims, old and new, of ids with a time and without
SELECT outbox.claim('c', (lpad(to_hex((extract(epoch FROM now() - interval '50 days') * 1000)::bigint), 12, '0')
		|| '70008000000000000001')::uuid) AS old, outbox.claim('c', '00000000-0000-4000-8000-000000000001') AS timeless;
UPDATE outbox.idempotency SET processed_at = now() - interval '90 days';
SELECT * FROM outbox.idempotency_maintain();
SELECT count(*) FROM outbox.idempotency;

-- a consumer's batch, taken back in part; attempts
BEGIN;
SELECT outbox.begin_batch('c', '{published}', '{0}', '{NULL}', '{2}', '{1,1}', '{0,1}', '{k,k}',
	'{00000000-0000-4000-8000-000000000002,0192f0c1-0000-7000-8000-000000000003}', '{true,true}');
SELECT outbox.trim_batch('c', '{published}', '{0}', '{1}',
	'{00000000-0000-4000-8000-000000000002,0192f0c1-0000-7000-8000-000000000003}');
COMMIT;
SELECT next_offset FROM outbox.consumer_offset;
SELECT outbox.advance_offset('c', 'published', 0, 1, 2);
BEGIN;
SELECT outbox.begin_batch('c', '{published}', '{1}', '{NULL}', '{2}', '{1}', '{0}', '{k}',
	'{00000000-0000-4000-8000-000000000004}', '{true}');
SELECT outbox.trim_batch('c', '{published}', '{1}', '{NULL}', '{00000000-0000-4000-8000-000000000004}');
COMMIT;
SELECT count(*) FROM outbox.consumer_offset;
SELECT count(*) FROM outbox.idempotency;

SELECT outbox.take_partition('c', 'published', 0, 'member');
SELECT outbox.note_attempt('c', 'published', 0, 'member', 7, '00000000-0000-7000-8000-000000000007');
SELECT outbox.leave_partition('c', 'published', 0, 'member', true);

-- dead letters, from the first try to the purge
SELECT outbox.dead_letter_add('c', 'published', 0, n, 'k', 'v', NULL, NULL, gen_random_uuid(), 'T', NULL,
	'open', 'record', NULL, 'seeded', 0) IS NOT NULL AS added FROM generate_series(1, 2) n;
SELECT outbox.dead_letter_note(id, 'seen') FROM outbox.dead_letter;
SELECT outbox.dead_letter_discard(id, 'test') FROM outbox.dead_letter WHERE "offset" = 1;
SELECT outbox.dead_letter_replay(id) FROM outbox.dead_letter WHERE "offset" = 2;
UPDATE outbox.dead_letter SET resolved_at = now() - interval '90 days' WHERE state = 'discarded';
SELECT outbox.dead_letter_purge(now() - interval '1 day');
SELECT state FROM outbox.dead_letter;

-- a replay
SELECT events FROM outbox.replay('-infinity', 'infinity');
SELECT outbox.replay_cancel(id, 'test') FROM outbox.replay_job;

SELECT state FROM outbox.replays;
DROP OWNED BY regress_outbox_published;
DROP ROLE regress_outbox_published;
\c :regress_database
SET client_min_messages = error;
DROP DATABASE outbox_published;
