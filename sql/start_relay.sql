-- Start and stop, without a broker.
CREATE FUNCTION wait_for_relay(runs boolean) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		IF (SELECT (pid IS NOT NULL) = runs FROM outbox.relay_status) THEN
			RETURN true;
		END IF;
		PERFORM pg_sleep(0.02);
	END LOOP;
	RETURN false;
END
$$;
\set VERBOSITY terse

-- refused where the genesis row could not be written, or proves nothing
BEGIN READ ONLY;
SELECT outbox.start_relay();
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT outbox.start_relay();
ROLLBACK;
SET session_replication_role = replica;
SELECT outbox.start_relay();
RESET session_replication_role;
BEGIN;
SELECT outbox.stop_relay();
PREPARE TRANSACTION 'switch';

-- what pg_restore --disable-triggers leaves makes the guards fire in every session; they keep its rows
BEGIN;
DO $$
DECLARE
	guarded text;
BEGIN
	FOREACH guarded IN ARRAY ARRAY['event', 'batch', 'audit', 'installation'] LOOP
		EXECUTE format('ALTER TABLE outbox.%I DISABLE TRIGGER ALL', guarded);
		EXECUTE format('ALTER TABLE outbox.%I ENABLE TRIGGER ALL', guarded);
	END LOOP;
END $$;
SELECT outbox.start_relay();
SELECT count(*) FROM outbox.batch;
SELECT outbox.declare_topic('start.guarded');
SELECT outbox.emit('start.guarded', 'k', 'T', '{}') IS NOT NULL AS emitted;
INSERT INTO outbox.event (txid, seq, segment, id, topic, type, created_at)
	VALUES (pg_current_xact_id(), nextval('outbox.event_seq'), 1, gen_random_uuid(), 'start.guarded', 'T', now());
SELECT count(*) FROM outbox.event WHERE topic = 'start.guarded';
INSERT INTO outbox.audit (action) VALUES ('by hand') RETURNING action;
UPDATE outbox.installation SET held = 'by hand' RETURNING held;
DELETE FROM outbox.installation RETURNING held;
-- docs/operations.md: the triggers get their modes back
SELECT format('ALTER TABLE ONLY %s ENABLE %s TRIGGER %I', tgrelid::regclass, CASE tgname WHEN 'drop_replicated' THEN 'REPLICA' ELSE 'ALWAYS' END, tgname)
FROM pg_trigger WHERE tgrelid::regclass::text LIKE 'outbox.%' AND NOT tgisinternal AND tgname IN ('drop_replicated', 'refuse_change', 'take_grant', 'topics_changed', 'raise_version') AND tgenabled = 'O'
ORDER BY 1
\gexec
SELECT tgname, tgenabled, count(DISTINCT tgrelid) FROM pg_trigger WHERE tgrelid::regclass::text LIKE 'outbox.%' AND NOT tgisinternal GROUP BY 1, 2 ORDER BY 1, 2;
ROLLBACK;
-- and a start whose first row is kept away says so
BEGIN;
CREATE FUNCTION keep_away() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER keep_away BEFORE INSERT ON outbox.batch FOR EACH ROW EXECUTE FUNCTION keep_away();
SELECT outbox.start_relay();
ROLLBACK;

-- an aborted start leaves nothing
BEGIN;
SELECT outbox.start_relay();
ROLLBACK;
SELECT count(*) FROM outbox.batch;
SELECT wait_for_relay(false);

-- what a dump of a server with higher transaction ids brought waits for none of them
INSERT INTO outbox.event (txid, seq, segment, id, topic, type, created_at)
	VALUES ('4611686018427387904', -1, 0, gen_random_uuid(), 'start.restored', 'T', now());
SELECT outbox.start_relay();
SELECT wait_for_relay(true);
SELECT batch_no, lower, upper, events, txid = xmin::text::xid8 AS native, b.timeline = i.timeline AND
		b.system_id = i.system_id AND b.database = i.database AS ours
	FROM (SELECT *, xmin FROM outbox.batch_0) b, outbox.server_identity() i WHERE batch_no = 0;
SELECT outbox.start_relay();
SELECT outbox.stop_relay();
SELECT wait_for_relay(false);
SELECT state FROM outbox.relay_status;
SELECT e.txid = b.txid AS restamped, t.tgenabled FROM outbox.event e, outbox.batch b, pg_trigger t
	WHERE e.topic = 'start.restored' AND b.batch_no = 0 AND t.tgrelid = 'outbox.event'::regclass AND t.tgname = 'refuse_change';
-- the genesis row stays
SELECT outbox.start_relay();
SELECT count(*) FROM outbox.batch WHERE batch_no = 0;
SELECT wait_for_relay(true);
SELECT outbox.stop_relay();
SELECT wait_for_relay(false);
DROP FUNCTION wait_for_relay;
