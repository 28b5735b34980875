/* SPDX-License-Identifier: PostgreSQL */
/* hazard.sql: the database of test/services/hazard.c. */
CREATE SCHEMA hazard;

/* Every effect, in the order it was made; nothing here refuses a second one of an event. */
CREATE TABLE hazard.taken (
	place bigint GENERATED ALWAYS AS IDENTITY,
	key text,
	event_id text NOT NULL,
	event jsonb NOT NULL
);

/*
 * What the handler is to raise instead, by the event's "what"; a sequence counts its calls.  code
 * end: the session is terminated; kill: its process is killed, with which the server restarts.
 */
CREATE TABLE hazard.failure (what text PRIMARY KEY, code text NOT NULL, message text NOT NULL);
CREATE SEQUENCE hazard.calls;

CREATE FUNCTION hazard.take(p_key text, p_event_id text, p_event jsonb) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	v_failure hazard.failure;
BEGIN
	PERFORM nextval('hazard.calls');
	SELECT * INTO v_failure FROM hazard.failure f WHERE f.what = p_event->>'what';
	IF v_failure.code = 'end' THEN
		PERFORM pg_terminate_backend(pg_backend_pid());
	ELSIF v_failure.code = 'kill' THEN
		EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pg_backend_pid());
	ELSIF v_failure.code IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = v_failure.code, MESSAGE = v_failure.message;
	END IF;
	INSERT INTO hazard.taken (key, event_id, event) VALUES (p_key, p_event_id, p_event);
	RETURN 'taken';
END $$;
