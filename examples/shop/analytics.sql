/* SPDX-License-Identifier: PostgreSQL */
/* analytics.sql: a read model of what is ordered.
 *
 * Run by a superuser in an empty database:  psql -d analytics -f analytics.sql
 * outbox-consume with analytics.conf calls analytics.on_event, which returns the outcome.
 */
CREATE EXTENSION IF NOT EXISTS outbox;

DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'analytics_service') THEN
		CREATE ROLE analytics_service LOGIN;
	END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
	NULL;	/* made meanwhile by a script for another database of this server */
END $$;

CREATE SCHEMA analytics;

/*
 * What is known of each order; revenue and units are read from it, so events may come again
 * and in any order.  To rebuild it: TRUNCATE it, and in the order service's database call
 * outbox.replay(..., consumer => 'analytics-service', reprocess => true) for its topics.
 *
 *	units	{sku: number} from count_units
 */
CREATE TABLE analytics.order_fact (
	order_id text PRIMARY KEY,
	day date,
	amount numeric(14,2),
	currency text,
	units jsonb,
	correlation_id text DEFAULT nullif(current_setting('outbox.correlation_id', true), ''),
	cancelled boolean NOT NULL DEFAULT false
);
CREATE INDEX order_fact_day ON analytics.order_fact (day);

CREATE VIEW analytics.revenue AS
	SELECT f.day, f.currency, count(*) AS orders, count(*) FILTER (WHERE f.cancelled) AS cancelled,
		coalesce(sum(f.amount) FILTER (WHERE NOT f.cancelled), 0) AS revenue
	FROM analytics.order_fact f WHERE f.day IS NOT NULL
	GROUP BY f.day, f.currency;
CREATE VIEW analytics.units AS
	SELECT f.day, u.sku, sum(u.units::numeric) AS units
	FROM analytics.order_fact f, jsonb_each_text(f.units) u (sku, units)
	WHERE f.day IS NOT NULL AND NOT f.cancelled
	GROUP BY f.day, u.sku;

/*
 * {sku: number} of an order's items; NULL: it has none.  Items that are none are an error of their
 * event.
 */
CREATE FUNCTION analytics.count_units(items jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_object_agg(g.sku, g.units)
	FROM (SELECT i->>'sku' AS sku, sum((i->>'quantity')::bigint) AS units
		FROM jsonb_array_elements(nullif(items, 'null')) i GROUP BY i->>'sku') g
$$;

/* orders.created, orders.cancelled */
CREATE FUNCTION analytics.on_event(event outbox.consumed_event) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	v_order text := outbox.required(event.value, 'orderId');
BEGIN
	IF event.topic = 'orders.cancelled' THEN
		INSERT INTO analytics.order_fact (order_id, cancelled) VALUES (v_order, true)
		ON CONFLICT (order_id) DO UPDATE SET cancelled = true;
		RETURN 'cancelled';
	END IF;
	INSERT INTO analytics.order_fact (order_id, day, amount, currency, units)
	VALUES (v_order,
		(outbox.required(event.value, 'createdAt')::timestamptz AT TIME ZONE 'UTC')::date,
		outbox.required(event.value, 'amount')::numeric, event.value->>'currency',
		analytics.count_units(event.value->'items'))
	ON CONFLICT (order_id) DO UPDATE SET day = excluded.day, amount = excluded.amount,
		currency = excluded.currency, units = excluded.units;
	RETURN 'ordered';
END $$;

/* Topics it reads, whose dead letters it emits. */
SELECT outbox.declare_topic('orders.created', 6);
SELECT outbox.declare_topic('orders.cancelled', 6);
SELECT outbox.grant_consume('analytics_service');
GRANT USAGE ON SCHEMA analytics TO analytics_service;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA analytics TO analytics_service;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA analytics FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA analytics TO analytics_service;
