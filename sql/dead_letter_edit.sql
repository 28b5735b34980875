-- A dead letter is replayed with another content; letters done with are purged.
\set SHOW_CONTEXT never
SELECT setval('outbox.dead_letter_id_seq', 500);
CREATE FUNCTION pg_temp.add(number bigint, state text) RETURNS bigint LANGUAGE sql AS $$
	SELECT outbox.dead_letter_add('edit', 'edit.a', 0, number, 'k', 'bad', outbox.headers_encode(ARRAY[('ce_id', 'old'), ('tenant', '7'),
		('outbox-replay-id', 'r'), ('none', NULL)]::outbox.header[], false), now(),
		('00000000-0000-7000-8000-' || lpad(number::text, 12, '0'))::uuid, 'Tested', 'corr', state, 'decode', NULL, 'not JSON', 3600000) $$;
CREATE FUNCTION pg_temp.names(headers bytea) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(h.name || coalesce('=' || CASE WHEN length(h.value) = 36 THEN 'uuid' ELSE convert_from(h.value, 'UTF8') END, ''), ' ' ORDER BY h.n)
	FROM outbox.headers_decode(headers) WITH ORDINALITY h (name, value, n) $$;
CREATE TEMP VIEW letters AS
	SELECT d.id, d."offset" AS number, d.state, d.value, pg_temp.names(d.headers) AS headers, d.event_id::text LIKE '00000000-%' AS first_id, d.attempts,
		d.next_attempt_at <= now() AS due, d.version, d.reason, d.replay_of, d.note ~ ('is the copy, event ' || coalesce(c.event_id::text, '')) AS noted
	FROM outbox.dead_letter d LEFT JOIN outbox.dead_letter c ON c.replay_of = d.id WHERE d.topic = 'edit.a';
CREATE ROLE regress_edit_operator;
SELECT outbox.grant_operate('regress_edit_operator');
SELECT pg_temp.add(1, 'open') AS a \gset
SELECT pg_temp.add(2, 'retrying') AS b, pg_temp.add(3, 'held') AS c \gset

-- off unless a superuser has switched it on
SELECT outbox.dead_letter_edit(:a, 1, 'good', 'mended');
SET ROLE regress_edit_operator;
SET outbox.allow_dead_letter_edit = on;
SELECT outbox.dead_letter_edit(:a, 1, 'good', 'mended');
RESET ROLE;
SET outbox.allow_dead_letter_edit = on;

-- errors; nothing is changed by them
\set VERBOSITY sqlstate
SELECT outbox.dead_letter_edit(:a, 2, 'good', 'mended');
\set VERBOSITY default
SELECT outbox.dead_letter_edit(:a, NULL, 'good', 'mended');
SELECT outbox.dead_letter_edit(:a, 1, 'good', '');
SELECT outbox.dead_letter_edit(:c, 1, 'good', 'mended');
SELECT outbox.dead_letter_edit(0, 1, 'good', 'mended');
SELECT outbox.dead_letter_edit(:a, 1, 'good', 'mended', ARRAY[(NULL, 'x')]::outbox.header[]);
SELECT count(*), max(version) FROM outbox.dead_letter WHERE topic = 'edit.a';
SELECT count(*) FROM outbox.audit WHERE detail ->> 'consumer' = 'edit';

-- the letter becomes the copy, with an id of its own, and is due; the original is kept
SET ROLE regress_edit_operator;
SELECT outbox.dead_letter_edit(:a, 1, '{"n": 1}', 'mended') AS original \gset
RESET ROLE;
SELECT id = :a AS it, id = :original AS the_original, number, state, value, headers, first_id, attempts, due, version, reason, replay_of = :original AS linked, noted
FROM letters WHERE id IN (:a, :original) ORDER BY id;
-- a second edit fails, and so does one of the original
SELECT outbox.dead_letter_edit(:a, 1, 'other', 'again') = 0;
SELECT outbox.dead_letter_edit(:original, 2, 'other', 'again') = 0;
-- the record as it was is not processed when Kafka delivers it again, nor by a member that had read it
SELECT outbox.advance_offset('edit', 'edit.a', 0, NULL, 10);
SELECT outbox.begin_batch('edit', '{edit.a}', '{0}', '{10}', '{10}', '{1}', '{1}', '{other}', '{00000000-0000-7000-8000-000000000001}', '{true}');
SELECT outbox.dead_letter_begin(:a, 1) IS NULL AS refused;
SELECT outbox.dead_letter_begin(:original, 1) IS NULL AS refused;
-- the copy is, once
SELECT id = :a AS it, value, attempts, "offset" FROM outbox.dead_letter_next('edit');
SELECT outbox.dead_letter_begin(:a, 2);
SELECT outbox.dead_letter_resolve(:a);
SELECT outbox.dead_letter_begin(:a, 3) IS NULL AS refused;
-- one that waits for its next try, with other headers; a tombstone; twice
SELECT outbox.dead_letter_edit(:b, 1, NULL, 'gone', ARRAY[('a', 'b'), ('CE_ID', 'forged'), ('outbox-replay-mode', 'x')]::outbox.header[]) AS original_b \gset
SELECT outbox.dead_letter_edit(:b, 1, 'x', 'late') = 0;
SELECT outbox.dead_letter_edit(:b, 2, 'x', 'once more') AS second_b \gset
SELECT number, state, value, headers, attempts, due, version, reason, replay_of = CASE id WHEN :b THEN :second_b ELSE :original_b END AS linked
FROM letters WHERE id IN (:b, :original_b, :second_b) ORDER BY id;

-- in replica role the version is raised and the audit written all the same
SELECT pg_temp.add(6, 'open') AS away \gset
SET session_replication_role = replica;
SELECT outbox.dead_letter_discard(:away, 'in replica role');
RESET session_replication_role;
SELECT version, (SELECT count(*) FROM outbox.audit WHERE object = 'dead_letter ' || :away) AS audited FROM outbox.dead_letter WHERE id = :away;
DELETE FROM outbox.dead_letter WHERE id = :away;

-- sizes are checked as emit()'s are; a consumer's record may be as large as it was
SELECT pg_temp.add(4, 'open') AS small, pg_temp.add(5, 'open') AS large \gset
UPDATE outbox.dead_letter SET value = convert_to(repeat('x', 500), 'UTF8') WHERE id = :large;
SET outbox.max_event_bytes = 150;
SELECT outbox.dead_letter_edit(:small, 1, convert_to(repeat('y', 100), 'UTF8'), 'mended');
SELECT outbox.dead_letter_edit(:small, 1, 'y', 'mended', ARRAY[('a', repeat('y', 120))]::outbox.header[]);
SELECT outbox.dead_letter_edit(:small, 1, convert_to(repeat('y', 10), 'UTF8'), 'mended', '{}') > 0 AS edited;
SELECT outbox.dead_letter_edit(:large, 1, convert_to(repeat('y', 700), 'UTF8'), 'mended');
SELECT outbox.dead_letter_edit(:large, 1, convert_to(repeat('y', 500), 'UTF8'), 'mended') > 0 AS edited;
RESET outbox.max_event_bytes;
DELETE FROM outbox.dead_letter WHERE topic = 'edit.a' AND "offset" IN (4, 5);

-- the relay's: it returns as a new event in its place, what its batch left out stays left out
INSERT INTO outbox.dead_letter (origin, topic, key, value, headers, record_time, event_id, event_type, error_class, error_message, state, txid, seq, batch_no)
SELECT 'relay', 'edit.r', 'k', 'bad', outbox.headers_encode(ARRAY[('tenant', '7')]::outbox.header[], true), now(),
	('00000000-0000-7000-8000-00000000001' || n)::uuid, 'Tested', 'refused', 'too large', CASE n WHEN 1 THEN 'open' ELSE 'held' END, '7', n, 3
FROM generate_series(1, 2) n;
SELECT min(id) AS r FROM outbox.dead_letter WHERE topic = 'edit.r' \gset
SELECT outbox.dead_letter_edit(:r, 1, 'good', 'cut', ARRAY[('ce_id', 'x')]::outbox.header[]);
SET outbox.max_event_bytes = 20;
SELECT outbox.dead_letter_edit(:r, 1, convert_to(repeat('y', 20), 'UTF8'), 'cut');
SELECT outbox.dead_letter_edit(:r, 1, NULL, 'cut', ARRAY[('a', repeat('y', 20))]::outbox.header[]);
RESET outbox.max_event_bytes;
SELECT outbox.dead_letter_edit(:r, 1, 'good', 'cut') > :r AS kept;
SELECT copies FROM outbox.dead_letter_reissue(0::smallint, 100);
SELECT e.payload, pg_temp.names(e.headers) AS headers, e.id = '00000000-0000-7000-8000-000000000011' AS old_id, e.id = d.event_id AS its
FROM outbox.event e LEFT JOIN outbox.dead_letter d ON d.id = :r WHERE e.topic = 'edit.r' ORDER BY e.seq;
SELECT state, right(event_id::text, 2) AS event, txid, seq, batch_no, reissue_txid IS NOT NULL AS reissued
FROM outbox.dead_letter WHERE topic = 'edit.r' AND id <> :r ORDER BY id;

-- noted
SELECT action, object = 'dead_letter ' || :a AS first_letter, reason, detail -> 'version' AS version, detail ->> 'event_id' LIKE '00000000-0000-7%' AS first_id, detail -> 'original' = to_jsonb(:original) AS original,
	detail ->> 'copy_event_id' = (SELECT event_id::text FROM outbox.dead_letter WHERE id = :a) AS copy
FROM outbox.audit WHERE action = 'dead_letter_edit' AND detail ->> 'topic' LIKE 'edit.%' ORDER BY id;

-- purge: what is done with, but for originals whose copies are there and the relay's of events retained
SELECT outbox.dead_letter_purge(NULL);
SELECT outbox.dead_letter_purge(now(), 0);
SELECT outbox.dead_letter_purge(now() - interval '1 day');
UPDATE outbox.dead_letter SET resolved_at = now() - interval '2 days' WHERE topic LIKE 'edit.%' AND resolved_at IS NOT NULL;
UPDATE outbox.dead_letter SET txid = (SELECT min(txid) FROM outbox.event WHERE topic = 'edit.r') WHERE topic = 'edit.r' AND txid IS NOT NULL;
SET ROLE regress_edit_operator;
SELECT outbox.dead_letter_purge(now() - interval '1 day', 1);
SELECT outbox.dead_letter_purge(now() - interval '1 day');
SELECT outbox.dead_letter_purge(now() - interval '1 day');
RESET ROLE;
SELECT topic, state, id IN (:b, :r) AS copy FROM outbox.dead_letter WHERE topic LIKE 'edit.%' ORDER BY id;
-- their events are gone
UPDATE outbox.dead_letter SET txid = '4', reissue_txid = '4' WHERE topic = 'edit.r';
SELECT outbox.dead_letter_purge(now() - interval '1 day'), outbox.dead_letter_purge(now() - interval '1 day') AS the_original;
SELECT detail - 'before' AS detail FROM outbox.audit WHERE action = 'dead_letter_purge' ORDER BY id;

-- what the topic does not take, as it is declared, neither an edit nor a replay sends; a consumer's letter asks nothing of its topic
SELECT outbox.declare_topic('edit.compact', cleanup_policy => 'compact'), outbox.declare_topic('edit.narrow', max_message_bytes => 1024);
INSERT INTO outbox.dead_letter (origin, topic, key, value, record_time, event_id, event_type, error_class, error_message, state)
SELECT 'relay', t, k, v, now(), gen_random_uuid(), 'Tested', 'refused', 'not taken', 'open'
FROM (VALUES (1, 'edit.compact', NULL::bytea, 'v'::bytea), (2, 'edit.narrow', 'k', convert_to(repeat('x', 2000), 'UTF8'))) l (n, t, k, v) ORDER BY n;
SELECT id AS compact FROM outbox.dead_letter WHERE topic = 'edit.compact' \gset
SELECT id AS narrow FROM outbox.dead_letter WHERE topic = 'edit.narrow' \gset
SELECT outbox.dead_letter_replay(:compact);
SELECT outbox.dead_letter_replay(:narrow);
SELECT count(*) FROM outbox.dead_letter_replay_where(topic => 'edit.narrow', reason => 'all');
SELECT outbox.dead_letter_edit(:compact, 1, 'w', 'other');
SELECT outbox.dead_letter_edit(:narrow, 1, convert_to(repeat('y', 1000), 'UTF8'), 'still too large');
SELECT outbox.dead_letter_edit(:narrow, 1, 'y', 'headers', ARRAY[('a', repeat('y', 1000))]::outbox.header[]);
SELECT topic, state, version FROM outbox.dead_letter WHERE topic IN ('edit.compact', 'edit.narrow') ORDER BY topic;
SELECT outbox.dead_letter_edit(:narrow, 1, convert_to(repeat('y', 500), 'UTF8'), 'cut') > 0 AS edited;
UPDATE outbox.topic SET cleanup_policy = NULL WHERE name = 'edit.compact';
SELECT outbox.dead_letter_replay(:compact, 'mended');
SELECT topic, state FROM outbox.dead_letter WHERE id IN (:compact, :narrow) ORDER BY topic;
UPDATE outbox.topic SET cleanup_policy = 'compact' WHERE name = 'edit.compact';
SELECT outbox.dead_letter_add('edit', 'edit.compact', 0, 1, NULL, 'bad', NULL, now(), gen_random_uuid(), 'Tested', 'corr', 'open', 'decode', NULL, 'not JSON', 3600000) AS consumers \gset
SELECT outbox.dead_letter_replay(:consumers);
DELETE FROM outbox.dead_letter WHERE topic IN ('edit.compact', 'edit.narrow');
DELETE FROM outbox.topic WHERE name IN ('edit.compact', 'edit.narrow');

DELETE FROM outbox.dead_letter WHERE topic LIKE 'edit.%';
DELETE FROM outbox.idempotency WHERE consumer = 'edit';
DELETE FROM outbox.consumer_offset WHERE consumer = 'edit';
DROP OWNED BY regress_edit_operator;
DROP ROLE regress_edit_operator;
