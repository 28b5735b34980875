-- outbox.replay(): refusals, counts, rights, audit.  No relay runs here.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset null NULL
SET client_min_messages = warning;
SET DateStyle = ISO;
SET timezone = 'UTC';
CREATE ROLE regress_outbox_replayer;
CREATE ROLE regress_outbox_stranger;
SELECT outbox.grant_operate('regress_outbox_replayer');
SELECT outbox.declare_topic('replay.a');
SELECT outbox.declare_topic('replay.b');
SELECT count(outbox.emit('replay.a', 'k' || n % 2, CASE WHEN n <= 3 THEN 'ReplayFirst' ELSE 'ReplaySecond' END, '{}'))
FROM generate_series(1, 5) n;
SELECT count(outbox.emit('replay.b', NULL, 'ReplayFirst', '{}'));

-- Refused, and nothing is stored.
SELECT outbox.replay(NULL, now());
SELECT outbox.replay('2026-01-02 00:00+00', '2026-01-01 00:00+00');
SELECT outbox.replay('2026-01-01 00:00+00', '2026-01-01 00:00+00');
SELECT outbox.replay('-infinity', 'infinity', rate => 0);
SELECT outbox.replay('-infinity', 'infinity', rate => 100001);
SELECT outbox.replay('-infinity', 'infinity', consumer => '');
SELECT outbox.replay('-infinity', 'infinity', reprocess => true);
SELECT outbox.replay('-infinity', 'infinity', target_topic => 'no topic');
SELECT outbox.replay('-infinity', 'infinity', target_topic => 'replay.undeclared');
SELECT outbox.replay('-infinity', 'infinity', target_topic => 'outbox.cursor');
SELECT outbox.replay('-infinity', 'infinity', target_topic => 'replay.a''; DROP TABLE outbox.event; --');
SELECT count(*) FROM outbox.replay_job;

-- A dry run counts; it writes nothing, and works where nothing can be written.
BEGIN READ ONLY;
SELECT * FROM outbox.replay('-infinity', 'infinity', 'replay.a', dry_run => true);
SELECT * FROM outbox.replay('-infinity', 'infinity', type => 'ReplayFirst', dry_run => true);
SELECT * FROM outbox.replay('-infinity', 'infinity', 'replay.a', 'ReplayFirst', 'k1', dry_run => true);
SELECT * FROM outbox.replay('-infinity', 'infinity', type => 'ReplayFirst'' OR true --', dry_run => true);
SELECT * FROM outbox.replay('-infinity', 'infinity', 'replay.a', key => E'\\x6b31', dry_run => true);
COMMIT;
-- The end is not part.
SELECT (outbox.replay(e.first, e.last, 'replay.a', dry_run => true)).events
FROM (SELECT min(created_at) AS first, max(created_at) AS last FROM outbox.event WHERE topic = 'replay.a') e;
-- The caller's own events are not part.
BEGIN;
SELECT outbox.emit('replay.b', 'k', 'ReplayFirst', '{}') IS NOT NULL AS emitted;
SELECT events FROM outbox.replay('-infinity', 'infinity', 'replay.b', dry_run => true);
ROLLBACK;
-- How far back events go is said; copies and rows of transactions unknown here do not count.
INSERT INTO outbox.event (txid, seq, segment, id, topic, type, created_at, copied_at)
VALUES ('3', 1, 0, gen_random_uuid(), 'replay.a', 'ReplayOld', '2001-01-01 00:00+00', NULL),
	('3', 1, 0, gen_random_uuid(), 'replay.a', 'ReplayOld', '2000-01-01 00:00+00', now()),
	((2::numeric ^ 62)::bigint::text::xid8, 1, 0, gen_random_uuid(), 'replay.a', 'ReplayOld', '2000-01-01 00:00+00', NULL);
SET client_min_messages = notice;
SELECT events FROM outbox.replay('2000-06-01', 'infinity', type => 'ReplayOld', dry_run => true);
SELECT events FROM outbox.replay('2001-01-01', 'infinity', type => 'ReplayOld', dry_run => true);
SET client_min_messages = warning;
ALTER TABLE ONLY outbox.event_0 DISABLE TRIGGER refuse_change;
DELETE FROM outbox.event_0 WHERE type = 'ReplayOld';
ALTER TABLE ONLY outbox.event_0 ENABLE ALWAYS TRIGGER refuse_change;
SELECT count(*) AS jobs, (SELECT count(*) FROM outbox.audit WHERE action LIKE 'replay%') AS audited FROM outbox.replay_job;

-- Who may.
SET ROLE regress_outbox_stranger;
SELECT outbox.replay('-infinity', 'infinity');
SELECT outbox.replay_cancel(gen_random_uuid(), 'x');
SELECT * FROM outbox.replays;
RESET ROLE;
-- To another topic than the events' own only with its grant.
SET ROLE regress_outbox_replayer;
SELECT * FROM outbox.replay('-infinity', 'infinity', 'replay.a', target_topic => 'replay.b', dry_run => true);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM outbox.replay('-infinity', 'infinity', target_topic => 'replay.a', dry_run => true);
SELECT * FROM outbox.replay('-infinity', 'infinity', 'replay.a', target_topic => 'replay.a', dry_run => true);
RESET ROLE;
SELECT outbox.grant_topic('replay.b', 'regress_outbox_replayer');
SET ROLE regress_outbox_replayer;
SELECT replay_id AS id, events FROM outbox.replay('-infinity', 'infinity', 'replay.a', 'ReplayFirst', 'k1', 'replay.b', 'billing',
	true, 50, reason => 'books were wrong') \gset
SELECT :events AS events;
SELECT state, replayed, total, percent, rate, eta, topic, type, key, target_topic, consumer, reprocess, reason, last_error
FROM outbox.replays WHERE replay_id = :'id';
SELECT * FROM outbox.replay_job;
SELECT outbox.change_replay(:'id', 'x', '{running}', 'done', NULL);
SELECT outbox.replay_pause(:'id', 'later');
SELECT state, eta FROM outbox.replays;
SELECT outbox.replay_resume(:'id');
SELECT outbox.replay_cancel(:'id', 'not needed');
SELECT state, finished_at IS NOT NULL AS finished FROM outbox.replays;
SELECT action, object = 'replay ' || :'id' AS object, role = session_user AS role, reason, detail - 'from' - 'to' AS detail
FROM outbox.audit WHERE action LIKE 'replay%' ORDER BY id;
RESET ROLE;
\set VERBOSITY terse
\set id2 00000000-0000-4000-8000-000000000001
SELECT outbox.replay_resume(:'id2');
SELECT outbox.replay_pause(NULL);
INSERT INTO outbox.replay_job (id, created_from, created_to, reprocess, rate, total, installation, snapshot, txid)
SELECT :'id2', '-infinity', 'infinity', false, 1, 1, i.id, '3:3:', '3' FROM outbox.installation i;
SELECT outbox.replay_resume(:'id2');
SELECT outbox.replay_cancel(:'id2', 'x');
SELECT outbox.replay_pause(:'id2');
-- Restored elsewhere it does not go on.
UPDATE outbox.replay_job SET state = 'paused', installation = gen_random_uuid() WHERE id = :'id2';
SELECT state, last_error FROM outbox.replays WHERE replay_id = :'id2';
SELECT outbox.replay_resume(:'id2');
-- A prepared transaction would wake nobody.
BEGIN;
SELECT count(*) FROM outbox.replay('-infinity', 'infinity');
PREPARE TRANSACTION 'replay';
SELECT count(*) FROM outbox.replay_job;

-- A dump takes it along.
SELECT 'outbox.replay_job'::regclass = ANY (extconfig) AS dumped FROM pg_extension WHERE extname = 'outbox';

-- Its headers cannot be forged.
SELECT outbox.emit('replay.a', 'k', 'T', '{}', '{"Outbox-Replay-Group": "x"}');

DELETE FROM outbox.replay_job;
SELECT outbox.revoke_topic('replay.b', 'regress_outbox_replayer');
DROP OWNED BY regress_outbox_replayer, regress_outbox_stranger;
DROP ROLE regress_outbox_replayer, regress_outbox_stranger;
