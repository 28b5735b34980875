/* SPDX-License-Identifier: PostgreSQL */
/* notification.sql: what customers are told of their orders.
 *
 * Run by a superuser in an empty database:  psql -d notification -f notification.sql
 * outbox-consume with notification.conf calls notification.on_event, which returns the outcome.
 */
CREATE EXTENSION IF NOT EXISTS outbox;

DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'notification_service') THEN
		CREATE ROLE notification_service LOGIN;
	END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
	NULL;	/* made meanwhile by a script for another database of this server */
END $$;

CREATE SCHEMA notification;

/*
 * Mail to be sent, one row an order and kind, whatever number of events name it.
 *
 *	kind	confirmation | cancellation
 */
CREATE TABLE notification.message (
	order_id text NOT NULL,
	kind text NOT NULL CHECK (kind IN ('confirmation', 'cancellation')),
	customer_id text NOT NULL,
	subject text NOT NULL,
	body text NOT NULL,
	correlation_id text DEFAULT nullif(current_setting('outbox.correlation_id', true), ''),
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (order_id, kind)
);

CREATE FUNCTION notification.confirmation_text(event outbox.consumed_event) RETURNS text
LANGUAGE sql STABLE AS $$
	SELECT format('Thank you for your order of %s: %s %s in all.',
		coalesce((SELECT string_agg((i->>'quantity') || ' x ' || (i->>'sku'), ', ' ORDER BY n)
			FROM jsonb_array_elements(event.value->'items') WITH ORDINALITY e (i, n)), 'nothing'),
		event.value->>'amount', event.value->>'currency')
$$;

CREATE FUNCTION notification.cancellation_text(event outbox.consumed_event) RETURNS text
LANGUAGE sql STABLE AS $$
	SELECT 'We are sorry: your order is cancelled. ' || CASE event.value->>'reason'
		WHEN 'PAYMENT_DECLINED' THEN 'Your payment was declined; nothing was charged.'
		WHEN 'INVENTORY_REJECTED' THEN 'What you ordered is out of stock; a payment is refunded.'
		ELSE 'A payment is refunded.' END
$$;

/* orders.created, orders.cancelled */
CREATE FUNCTION notification.on_event(event outbox.consumed_event) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	v_order text := outbox.required(event.value, 'orderId');
	v_kind text := CASE event.topic WHEN 'orders.cancelled' THEN 'cancellation'
		ELSE 'confirmation' END;
BEGIN
	INSERT INTO notification.message (order_id, kind, customer_id, subject, body)
	VALUES (v_order, v_kind, outbox.required(event.value, 'customerId'),
		format('Your order %s', v_order),
		CASE v_kind WHEN 'cancellation' THEN notification.cancellation_text(event)
			ELSE notification.confirmation_text(event) END)
	ON CONFLICT DO NOTHING;
	RETURN CASE WHEN FOUND THEN v_kind ELSE 'repeated' END;
END $$;

/* Topics it reads, whose dead letters it emits. */
SELECT outbox.declare_topic('orders.created', 6);
SELECT outbox.declare_topic('orders.cancelled', 6);
SELECT outbox.grant_consume('notification_service');
GRANT USAGE ON SCHEMA notification TO notification_service;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA notification TO notification_service;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA notification FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA notification TO notification_service;
