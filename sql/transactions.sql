-- emit() in every kind of transaction.
\set VERBOSITY terse
SELECT outbox.declare_topic('transactions.test');
CREATE FUNCTION emitted() RETURNS TABLE (key text, top_level boolean) LANGUAGE sql AS $$
	SELECT outbox.bytes_text(key), txid = pg_current_xact_id_if_assigned() FROM outbox.event
	WHERE topic = 'transactions.test' ORDER BY seq
$$;

BEGIN;
SELECT outbox.emit('transactions.test', 'rolled back', 'T', '{}') IS NOT NULL AS emitted;
ROLLBACK;

-- Rows of subtransactions carry the top-level transaction's id.
BEGIN;
SAVEPOINT a;
SELECT outbox.emit('transactions.test', 'in savepoint', 'T', '{}') IS NOT NULL AS emitted;
SAVEPOINT b;
SELECT outbox.emit('transactions.test', 'rolled back to', 'T', '{}') IS NOT NULL AS emitted;
ROLLBACK TO b;
DO $$
BEGIN
	PERFORM outbox.emit('transactions.test', 'in a block', 'T', '{}');
	BEGIN
		PERFORM outbox.emit('transactions.test', 'undone', 'T', '{}');
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		PERFORM outbox.emit('transactions.test', 'in a handler', 'T', '{}');
	END;
END
$$;
DO $$
BEGIN
	FOR i IN 1..100 LOOP
		BEGIN
			PERFORM outbox.emit('transactions.test', 'deep', 'T', '{}');
		EXCEPTION WHEN division_by_zero THEN NULL;
		END;
	END LOOP;
END
$$;
SELECT key, top_level, count(*) FROM emitted() GROUP BY 1, 2 ORDER BY 1;
COMMIT;

BEGIN;
SELECT outbox.emit('transactions.test', 'prepared', 'T', '{}') IS NOT NULL AS emitted;
PREPARE TRANSACTION 'outbox_kept';
BEGIN;
SELECT outbox.emit('transactions.test', 'prepared in vain', 'T', '{}') IS NOT NULL AS emitted;
PREPARE TRANSACTION 'outbox_dropped';
SELECT count(*) FROM emitted() WHERE key LIKE 'prepared%';
COMMIT PREPARED 'outbox_kept';
ROLLBACK PREPARED 'outbox_dropped';
SELECT key FROM emitted() WHERE key LIKE 'prepared%';

BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT outbox.emit('transactions.test', 'repeatable read', 'T', '{}') IS NOT NULL AS emitted;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT outbox.emit('transactions.test', 'serializable', 'T', '{}') IS NOT NULL AS emitted;
-- Nothing was read in the sense of SSI.
SELECT count(*) FROM pg_locks WHERE mode = 'SIReadLock' AND pid = pg_backend_pid()
	AND relation::regclass::text LIKE 'outbox.%';
COMMIT;

BEGIN READ ONLY;
SELECT outbox.emit('transactions.test', 'k', 'T', '{}');
ROLLBACK;
BEGIN READ ONLY;
INSERT INTO outbox.outgoing VALUES ('transactions.test', 'k', 'T', '{}');
ROLLBACK;

CREATE FUNCTION emit_mislabelled() RETURNS uuid LANGUAGE sql PARALLEL SAFE
AS $$ SELECT outbox.emit('transactions.test', 'parallel', 'T', '{}') $$;
SELECT name AS parallel_setting FROM pg_settings
WHERE name IN ('force_parallel_mode', 'debug_parallel_query') \gset
SET :parallel_setting = on;
SELECT emit_mislabelled();
RESET :parallel_setting;

SELECT key, count(*) FROM emitted() GROUP BY 1 ORDER BY 1;

-- A topic declared in a transaction is known in it, and forgotten when it rolls back.
BEGIN;
SELECT outbox.declare_topic('transactions.short');
SELECT outbox.emit('transactions.short', 'k', 'T', '{}') IS NOT NULL AS emitted;
ROLLBACK;
SELECT outbox.emit('transactions.short', 'k', 'T', '{}');

-- emit() goes on after the extension was made again in the same session.
BEGIN;
SET LOCAL client_min_messages = error;	-- of unsent events, whose number depends on other tests
DROP EXTENSION outbox CASCADE;
CREATE EXTENSION outbox;
SELECT outbox.declare_topic('transactions.new');
SELECT outbox.emit('transactions.new', 'k', 'T', '{}') IS NOT NULL AS emitted;
SELECT topic FROM outbox.event;
ROLLBACK;
SELECT outbox.emit('transactions.test', 'last', 'T', '{}') IS NOT NULL AS emitted;

DROP FUNCTION emitted();
DROP FUNCTION emit_mislabelled();
