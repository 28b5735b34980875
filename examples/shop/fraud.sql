/* SPDX-License-Identifier: PostgreSQL */
/* fraud.sql: orders a person should look at.
 *
 * Run by a superuser in an empty database:  psql -d fraud -f fraud.sql
 * outbox-consume with fraud.conf calls fraud.on_event, which returns the outcome.
 */
CREATE EXTENSION IF NOT EXISTS outbox;

DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fraud_service') THEN
		CREATE ROLE fraud_service LOGIN;
	END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
	NULL;	/* made meanwhile by a script for another database of this server */
END $$;

CREATE SCHEMA fraud;

/*
 * Orders as they were placed, what the rules look back on: rows of 60 days ago may be deleted,
 * unless flagged.
 */
CREATE TABLE fraud.seen_order (
	order_id text PRIMARY KEY,
	customer_id text NOT NULL,
	amount numeric(14,2) NOT NULL,
	correlation_id text DEFAULT nullif(current_setting('outbox.correlation_id', true), ''),
	placed_at timestamptz NOT NULL
);
CREATE INDEX seen_order_customer ON fraud.seen_order (customer_id, placed_at)
	INCLUDE (order_id, amount);

/* One row an order that a rule has met; its event is emitted with it. */
CREATE TABLE fraud.flag (
	order_id text PRIMARY KEY REFERENCES fraud.seen_order,
	correlation_id text DEFAULT nullif(current_setting('outbox.correlation_id', true), ''),
	rules text[] NOT NULL,
	flagged_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

/*
 * The rules an order meets, NULL: none.  A customer's orders are in different partitions and come
 * in any order, so each is compared with those seen before it that were placed at most 30 days
 * before or after it.  Exact with one thread; members that work at the same time do not see each
 * other's latest orders.
 *
 *	LARGE_AMOUNT	10,000 or more
 *	MANY_ORDERS		the sixth or later one seen that is within ten minutes of the others
 *	SUDDEN_RISE		more than ten times the mean of at least three others
 */
CREATE FUNCTION fraud.find_rules(seen fraud.seen_order) RETURNS text[]
LANGUAGE sql STABLE AS $$
	SELECT array_agg(r.rule ORDER BY r.rule)
	FROM (SELECT count(*) AS number, avg(o.amount) AS mean,
			count(*) FILTER (WHERE o.placed_at BETWEEN seen.placed_at - interval '10 minutes'
				AND seen.placed_at + interval '10 minutes') AS near
		FROM fraud.seen_order o
		WHERE o.customer_id = seen.customer_id AND o.order_id <> seen.order_id
			AND o.placed_at BETWEEN seen.placed_at - interval '30 days'
				AND seen.placed_at + interval '30 days') other,
		LATERAL (VALUES ('LARGE_AMOUNT', seen.amount >= 10000), ('MANY_ORDERS', other.near >= 5),
			('SUDDEN_RISE', other.number >= 3 AND seen.amount > 10 * other.mean)) r (rule, met)
	WHERE r.met
$$;

/* orders.created */
CREATE FUNCTION fraud.on_event(event outbox.consumed_event) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	seen fraud.seen_order;
	v_rules text[];
BEGIN
	INSERT INTO fraud.seen_order (order_id, customer_id, amount, placed_at)
	VALUES (outbox.required(event.value, 'orderId'), outbox.required(event.value, 'customerId'),
		outbox.required(event.value, 'amount')::numeric,
		outbox.required(event.value, 'createdAt')::timestamptz)
	ON CONFLICT DO NOTHING RETURNING * INTO seen;
	IF NOT FOUND THEN
		RETURN 'repeated';
	END IF;
	v_rules := fraud.find_rules(seen);
	IF v_rules IS NULL THEN
		RETURN 'fine';
	END IF;
	INSERT INTO fraud.flag (order_id, rules) VALUES (seen.order_id, v_rules);
	PERFORM outbox.emit('orders.flagged', seen.order_id, 'OrderFlagged', jsonb_build_object(
		'orderId', seen.order_id,
		'customerId', seen.customer_id,
		'rules', v_rules,
		'flaggedAt', to_char(clock_timestamp() AT TIME ZONE 'UTC',
			'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')));
	RETURN 'flagged';
END $$;

/* Topics it emits to and those it reads, whose dead letters it emits. */
SELECT outbox.declare_topic('orders.flagged', 6);
SELECT outbox.declare_topic('orders.created', 6);
SELECT outbox.grant_consume('fraud_service');
SELECT outbox.grant_topic('orders.flagged', 'fraud_service');
GRANT USAGE ON SCHEMA fraud TO fraud_service;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA fraud TO fraud_service;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA fraud FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA fraud TO fraud_service;
