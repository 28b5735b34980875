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

-- an aborted start leaves nothing
BEGIN;
SELECT outbox.start_relay();
ROLLBACK;
SELECT count(*) FROM outbox.batch;
SELECT wait_for_relay(false);

SELECT outbox.start_relay();
SELECT wait_for_relay(true);
SELECT batch_no, lower, upper, events, txid = xmin::text::xid8 AS native, b.timeline = i.timeline AND
		b.system_id = i.system_id AND b.database = i.database AS ours
	FROM (SELECT *, xmin FROM outbox.batch_0) b, outbox.server_identity() i WHERE batch_no = 0;
SELECT outbox.start_relay();
SELECT outbox.stop_relay();
SELECT wait_for_relay(false);
SELECT state FROM outbox.relay_status;
-- the genesis row stays
SELECT outbox.start_relay();
SELECT count(*) FROM outbox.batch WHERE batch_no = 0;
SELECT wait_for_relay(true);
SELECT outbox.stop_relay();
SELECT wait_for_relay(false);
DROP FUNCTION wait_for_relay;
