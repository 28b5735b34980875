-- Before a call to another system: which records one may be made for, and what is noted; effects above the watermark.
\set VERBOSITY terse
SELECT outbox.declare_topic('call.t', 3);
CREATE FUNCTION pg_temp.id(n integer) RETURNS uuid LANGUAGE sql AS $$
	SELECT ('00000000-0001-7000-8000-' || lpad(n::text, 12, '0'))::uuid
$$;
CREATE FUNCTION pg_temp.ids(VARIADIC n integer[]) RETURNS uuid[] LANGUAGE sql AS $$
	SELECT array_agg(pg_temp.id(i) ORDER BY place) FROM unnest(n) WITH ORDINALITY u (i, place)
$$;
CREATE VIEW pg_temp.position AS SELECT partition, next_offset, went_back_from, seen_to, last_offset, last_digest
	FROM outbox.consumer_offset WHERE consumer = 'call' ORDER BY partition;

-- 11 is done while 10 is called for: the watermark is at 10, and nothing of the log is known by it yet
SELECT outbox.begin_batch('call', '{call.t}', '{0}', '{NULL}', '{10}', '{1}', '{11}', '{b}', pg_temp.ids(11), '{t}', part_done_to => '{12}');
SELECT * FROM pg_temp.position;
-- so is 13; then 10, and the watermark is behind 11
SELECT outbox.begin_batch('call', '{call.t}', '{0}', '{10}', '{10}', '{1}', '{13}', '{d}', pg_temp.ids(13), '{t}', part_logs => '{0}', part_done_to => '{14}');
SELECT outbox.begin_batch('call', '{call.t}', '{0}', '{10}', '{12}', '{1}', '{10}', '{a}', pg_temp.ids(10), '{t}', part_logs => '{0}',
	part_times => '{1011}', part_digests => '{-11}');
SELECT * FROM pg_temp.position;
-- a member that read on from 12: what was done above is known, letters too
SELECT outbox.begin_batch('call', '{call.t}', '{0}', '{12}', '{14}', '{1,1}', '{12,13}', '{c,d}', pg_temp.ids(12, 13), '{t,t}', part_logs => '{0}');
-- the watermark is what it was: another member has not been there
SELECT outbox.begin_batch('call', '{call.t}', '{0}', '{12}', '{12}', '{1}', '{15}', '{e}', pg_temp.ids(15), '{t}', part_done_to => '{16}') IS NULL AS fenced;
-- above it another member may have been: what it has processed is not made a letter
SELECT outbox.begin_batch('call', '{call.t}', '{0}', '{14}', '{14}', '{1,1}', '{16,17}', '{x,x}', pg_temp.ids(13, 17), '{f,f}', part_done_to => '{18}');
-- nor when its own are done up to there
SELECT outbox.begin_batch('late', '{call.t}', '{0}', '{NULL}', '{60}', '{1}', '{61}', '{b}', pg_temp.ids(61), '{t}', part_done_to => '{62}');
SELECT outbox.begin_batch('late', '{call.t}', '{0}', '{60}', '{61}', '{1}', '{60}', '{a}', pg_temp.ids(60), '{t}');
SELECT outbox.begin_batch('late', '{call.t}', '{0}', '{61}', '{63}', '{1,1}', '{61,62}', '{b,c}', pg_temp.ids(61, 62), '{f,f}');
-- an earlier one is not lowered, and the log may go back
SELECT outbox.begin_batch('call', '{call.t}', '{0}', '{14}', '{14}', '{1}', '{20}', '{f}', pg_temp.ids(20), '{t}', part_done_to => '{21}');
SELECT outbox.begin_batch('call', '{call.t}', '{0}', '{14}', '{14}', '{1}', '{16}', '{g}', pg_temp.ids(16), '{t}', part_done_to => '{17}');
SELECT outbox.rewind_offset('call', 'call.t', 0, 14, 0, 5);
SELECT * FROM pg_temp.position;
SELECT outbox.begin_batch('call', '{call.t}', '{0}', '{5}', '{6}', '{1}', '{5}', '{f}', pg_temp.ids(20), '{t}', part_logs => '{1}');

-- what may be called for: 30 new; 31 processed, at another place; 32 of a key with an open letter, 33 that letter, 34 held
-- behind it; 35 of the key but processed; 36 without a key; 37 processed by the id it had
SELECT outbox.dead_letter_add('call', 'call.t', 1, 33, 'k', 'v', NULL, NULL, pg_temp.id(33), 'T', NULL, 'open', 'record', 'P0001', 'seeded', 0) IS NOT NULL;
SELECT outbox.dead_letter_add('call', 'call.t', 1, 34, 'k', 'v', NULL, NULL, pg_temp.id(34), 'T', NULL, 'held', 'held', NULL, 'held', 0) IS NOT NULL;
SELECT outbox.claim_many('call', pg_temp.ids(35, 137));
SELECT outbox.advance_offset('call', 'call.t', 1, NULL, 30);
SELECT outbox.take_partition('call', 'call.t', 1, 'me'), outbox.attempt_calls('call', 'call.t', 1) IS NULL AS none;
CREATE FUNCTION pg_temp.ask(owner text, hold boolean) RETURNS text LANGUAGE sql AS $$
	SELECT outbox.begin_calls('call', owner, '{call.t}', '{1}', '{1,1,1,1,1,1,1,1}', '{30,31,32,33,34,35,36,37}',
		'{n,o,k,k,k,k,NULL,p}', pg_temp.ids(30, 20, 32, 33, 34, 35, 36, 37), pg_temp.ids(30, 20, 32, 33, 34, 35, 36, 37), hold,
		array_fill(NULL::uuid, '{7}') || pg_temp.id(137), '{1,1}', '{28,30}')
$$;
SELECT pg_temp.ask('me', true), pg_temp.ask('me', false);
-- asked for another consumer, nothing is known
SELECT outbox.begin_calls('other', 'me', '{call.t}', '{1}', '{1}', '{31}', '{k}', pg_temp.ids(20), pg_temp.ids(20), true, NULL, '{}', '{}');
-- the old id counts below old_ids_to alone
UPDATE outbox.consumer_offset SET old_ids_to = 38 WHERE consumer = 'call' AND partition = 1;
SELECT pg_temp.ask('me', true);
-- what may be under way is noted, of the partition's owner alone, once each; nothing is locked or claimed
SELECT calls FROM outbox.consumer_attempt WHERE consumer = 'call';
SELECT outbox.begin_calls('call', 'somebody', '{call.t}', '{1}', '{1}', '{40}', '{n}', pg_temp.ids(40), pg_temp.ids(40), true, NULL, '{}', '{}');
SELECT outbox.take_partition('call', 'call.t', 1, 'next'), outbox.attempt_calls('call', 'call.t', 1);
SELECT outbox.begin_calls('call', 'next', '{call.t}', '{1}', '{1}', '{40}', '{n}', pg_temp.ids(40), pg_temp.ids(40), true, NULL, '{1}', '{28}');
SELECT outbox.attempt_calls('call', 'call.t', 1);
SELECT outbox.leave_partition('call', 'call.t', 1, 'next', true);
SELECT outbox.take_partition('call', 'call.t', 1, 'me'), outbox.attempt_calls('call', 'call.t', 1);
SELECT outbox.claim('call', pg_temp.id(30));

-- a letter: has its event been processed meanwhile?  An edited one is the event its row says.
SELECT outbox.dead_letter_add('call', 'call.t', 2, 50, 'x', 'v', NULL, NULL, pg_temp.id(50), 'T', NULL, 'retrying', 'record', 'P0001', 'seeded', 0) AS letter \gset
SELECT outbox.dead_letter_claimed(:letter, pg_temp.id(50));
SELECT outbox.claim('call', pg_temp.id(50));
SELECT outbox.dead_letter_claimed(:letter, pg_temp.id(50)), outbox.dead_letter_claimed(:letter, pg_temp.id(51)) AS other;
UPDATE outbox.dead_letter SET replay_of = 1 WHERE id = :letter;
SELECT outbox.dead_letter_claimed(:letter, pg_temp.id(51));
-- who has rows in hand is given others
SELECT id = :letter AS first, wait_ms FROM outbox.dead_letter_next_run('call', '{call.t}', 5);
SELECT count(*) FROM outbox.dead_letter_next_run('call', '{call.t}', 5, ARRAY[:letter]::bigint[]);
SELECT outbox.dead_letter_put_back(:letter);
