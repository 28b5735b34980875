-- What persons do with dead letters, and what the relay does then.
\set SHOW_CONTEXT never
SELECT setval('outbox.dead_letter_id_seq', 1000);
CREATE ROLE "regress_letters operator";
SELECT outbox.grant_operate('"regress_letters operator"');

-- the relay's rows: as it writes them, in order
CREATE FUNCTION pg_temp.add(number bigint, key bytea, state text, blocked_by bigint DEFAULT NULL) RETURNS bigint
LANGUAGE sql AS $$
	INSERT INTO outbox.dead_letter (origin, topic, key, value, content_type, headers, record_time, event_id,
		event_type, error_class, error_message, state, blocked_by, txid, seq, batch_no)
	VALUES ('relay', 'letters', key, '\x76', 'text/plain', '\x020a63655f69640278', '2026-01-01 00:00+00',
		('00000000-0000-7000-8000-' || lpad(number::text, 12, '0'))::uuid, 'Tested', 'refused', 'too large',
		state, blocked_by, '7', number, 3)
	RETURNING id
$$;
CREATE FUNCTION pg_temp.reissue(at_most integer) RETURNS TABLE (letters integer, bytes bigint)
LANGUAGE sql AS $$ SELECT copies, bytes FROM outbox.dead_letter_reissue(0::smallint, at_most) $$;
CREATE TEMP VIEW letters AS
	SELECT d.seq, d.state, d.blocked_by - (SELECT min(id) FROM outbox.dead_letter WHERE topic = 'letters') + 1 AS behind,
		reissue_txid IS NOT NULL AS reissued, resolved_at IS NOT NULL AS done, resolved_by = session_user AS by_me, reason, note
	FROM outbox.dead_letter d WHERE d.topic = 'letters' ORDER BY d.id;

SELECT pg_temp.add(1, 'a', 'open') AS a \gset
SELECT pg_temp.add(2, 'a', 'held', :a), pg_temp.add(3, 'b', 'open') - :a, pg_temp.add(4, 'a', 'held', :a) IS NOT NULL \g /dev/null
SELECT pg_temp.add(5, NULL, 'open') AS keyless \gset
SELECT dead_letters_open, keys_held FROM outbox.relay_status;
SELECT topic, hash = sha256('a') AS a, blocked_by = :a AS behind_a, newest_txid
FROM outbox.dead_letter_held_keys(false, 10);
-- with the policy hold_key open ones count, too; those without a key never do; at most so many
SELECT hash = sha256('a') AS a, hash = sha256('b') AS b FROM outbox.dead_letter_held_keys(true, 10) ORDER BY 1;
-- past that the topic waits as a whole: no key of it is given
SELECT topic, hash, blocked_by, newest_txid FROM outbox.dead_letter_held_keys(true, 1);

-- errors
SELECT outbox.dead_letter_replay(0);
SELECT outbox.dead_letter_replay(NULL);
SELECT outbox.dead_letter_discard(:a, ' ');
SELECT outbox.dead_letter_discard(:a, NULL);
SELECT outbox.dead_letter_restore(id) FROM outbox.dead_letter WHERE topic = 'letters' AND seq = 3;
SELECT outbox.dead_letter_replay(id) FROM outbox.dead_letter WHERE topic = 'letters' AND seq = 2;
SELECT count(*) FROM outbox.audit WHERE detail ->> 'topic' = 'letters';

-- nothing is due before a person has decided
SELECT * FROM pg_temp.reissue(100);
-- replay: the letter and what is held behind it, in order; the others stay
SET ROLE "regress_letters operator";
SELECT outbox.dead_letter_note(:a, 'the topic takes 2 MB now');
SELECT outbox.dead_letter_replay(:a, 'topic altered');
SELECT outbox.dead_letter_replay(:keyless);
SELECT count(*) > 0 AS seen FROM outbox.dead_letters WHERE state = 'releasing';
SELECT * FROM outbox.dead_letter;
SELECT outbox.dead_letter_reissue(0::smallint, 1);
UPDATE outbox.audit SET reason = 'other';
RESET ROLE;
SELECT * FROM letters;
SELECT * FROM pg_temp.reissue(100);
SELECT * FROM pg_temp.reissue(100);
SELECT * FROM letters;
SELECT e.topic, e.key, e.type, e.payload, e.content_type, e.headers, e.created_at AT TIME ZONE 'UTC' AS created_at,
	right(e.id::text, 1) AS number, e.segment, e.txid = d.reissue_txid AS own_transaction
FROM outbox.event e JOIN outbox.dead_letter d ON d.event_id = e.id
WHERE e.topic = 'letters' ORDER BY e.seq;

-- discard: what is held goes on without it; restore and discard again
SELECT pg_temp.add(6, 'c', 'open') AS c \gset
SELECT pg_temp.add(7, 'c', 'held', :c), pg_temp.add(8, 'c', 'held', :c) \g /dev/null
SELECT outbox.dead_letter_discard(:c, 'a test');
SELECT outbox.dead_letter_discard(:c, 'again');
SELECT outbox.dead_letter_restore(:c, 'by mistake');
-- open again: it blocks what is held, but for what was due before
SELECT * FROM letters WHERE seq > 5;
SELECT * FROM pg_temp.reissue(100);
SELECT outbox.dead_letter_discard(:c, 'after all');
SELECT * FROM pg_temp.reissue(100);
SELECT seq, state, reissued FROM letters WHERE seq > 5;

-- an open letter of the key holds the rest back, not a replayed one before it
SELECT pg_temp.add(9, 'd', 'open') AS d, pg_temp.add(10, 'd', 'open') AS e \gset
SELECT pg_temp.add(11, 'd', 'held', :e) AS f \gset
SELECT outbox.dead_letter_replay(:d);
SELECT * FROM pg_temp.reissue(100);
SELECT seq, state FROM letters WHERE seq > 8;
-- of what is held one can be given up; then the rest is due when the open one is
SELECT outbox.dead_letter_discard(:f, 'not needed');
SELECT outbox.dead_letter_replay(:e);
SELECT * FROM pg_temp.reissue(100);
SELECT seq, state, reissued FROM letters WHERE seq > 8;

-- whole keys, and no more of them than asked for
SELECT pg_temp.add(20, 'g', 'releasing'), pg_temp.add(21, 'g', 'held'), pg_temp.add(22, 'h', 'releasing') \g /dev/null
SELECT * FROM pg_temp.reissue(1);
SELECT seq, state FROM letters WHERE seq >= 20;
SELECT * FROM pg_temp.reissue(1);

-- held behind nothing: the sweep finds it, and leaves what waits behind something
SELECT pg_temp.add(30, 'i', 'held'), pg_temp.add(31, 'i', 'held'), pg_temp.add(32, 'j', 'open'), pg_temp.add(33, 'j', 'held') \g /dev/null
SELECT outbox.dead_letter_sweep(100);
SELECT seq, state FROM letters WHERE seq >= 30;

-- of a topic that waits as a whole, too, but not while so many letters are open; of two topics the one with more keys waits
SELECT pg_temp.add(33 + n, ('k' || n)::bytea, 'held') FROM generate_series(1, 6) n \g /dev/null
SELECT outbox.dead_letter_sweep(1);
SELECT seq, state FROM letters WHERE seq >= 34;
INSERT INTO outbox.dead_letter (origin, topic, key, event_id, error_class, error_message, state)
SELECT 'relay', 'a few letters', 'k', gen_random_uuid(), 'held', 'one', 'held';
SELECT topic, hash IS NULL AS whole FROM outbox.dead_letter_held_keys(true, 2) ORDER BY 1;
SELECT outbox.dead_letter_sweep(5);
SELECT seq, state FROM letters WHERE seq >= 34;
DELETE FROM outbox.dead_letter WHERE topic = 'a few letters' OR topic = 'letters' AND seq >= 34;
-- what a transaction that emitted letters again has left of a key waits behind the copy that was refused
SELECT topic, blocked_by IS NOT NULL AS behind, newest_txid FROM outbox.dead_letter_reissued_keys('{letters}', '{7,9}')
WHERE hash = sha256('j');
SELECT count(*) FROM outbox.dead_letter_reissued_keys('{letters}', '{9}');

-- a key longer than an index entry
INSERT INTO outbox.dead_letter (origin, topic, key, event_id, error_class, error_message, state)
SELECT 'relay', 'letters', string_agg(sha256(n::text::bytea), ''), gen_random_uuid(), 'refused', 'long', 'open'
FROM generate_series(1, 200) n;

-- a consumer's: processed again now; given up; the next of its key is due
SELECT outbox.dead_letter_add('letters', 'letters', 0, 1, 'k', 'v', NULL, NULL,
	'00000000-0000-7000-8000-000000000041', 'T', NULL, 'retrying', 'record', NULL, 'seeded', 3600000) AS k \gset
SELECT outbox.dead_letter_add('letters', 'letters', 0, 2, 'k', 'v', NULL, NULL,
	'00000000-0000-7000-8000-000000000042', 'T', NULL, 'held', 'record', NULL, 'seeded', 0) AS l \gset
SELECT wait_ms > 3000000 AS later FROM outbox.dead_letter_next('letters');
SELECT outbox.dead_letter_replay(:k, 'now');
SELECT id = :k AS it, wait_ms FROM outbox.dead_letter_next('letters');
SELECT outbox.dead_letter_replay(:l);
SELECT outbox.dead_letter_discard(:k, 'hopeless');
SELECT id = :l AS next, wait_ms FROM outbox.dead_letter_next('letters');
SELECT outbox.dead_letter_failed(:l, 0, true, 3, 0, 'permanent', NULL, 'never');
SELECT outbox.dead_letter_replay(:l, 'mended');
SELECT id = :l AS it, wait_ms FROM outbox.dead_letter_next('letters');
SELECT outbox.dead_letter_begin(:l, 1);
SELECT outbox.dead_letter_resolve(:l);
SELECT "offset", state, reason FROM outbox.dead_letter WHERE consumer = 'letters' ORDER BY id;

-- everything is noted
SELECT row_number() OVER (ORDER BY id) AS n, role = session_user AS me, action, split_part(object, ' ', 1) AS object, reason,
	detail - 'event_id' AS detail FROM outbox.audit WHERE detail ->> 'topic' = 'letters' ORDER BY id;
SELECT object = 'dead_letter ' || :a AS this, detail ->> 'event_id' AS event FROM outbox.audit WHERE detail ->> 'topic' = 'letters' ORDER BY id LIMIT 1;

DELETE FROM outbox.dead_letter WHERE topic = 'letters';
DROP OWNED BY "regress_letters operator";
DROP ROLE "regress_letters operator";
