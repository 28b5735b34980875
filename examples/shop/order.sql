/* SPDX-License-Identifier: PostgreSQL */
/* order.sql: the order service's database.
 *
 * Run by a superuser in an empty database:  psql -d orders -f order.sql
 * place_order and order_json serve HTTP; the settle_ functions are called for the
 * answers of payment and inventory and return the outcome.
 */
CREATE EXTENSION IF NOT EXISTS outbox;

DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'order_service') THEN
		CREATE ROLE order_service LOGIN;
	END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
	NULL;	/* made meanwhile by a script for another database of this server */
END $$;

CREATE SCHEMA shop;

/* What is sold, and for how much; an order keeps the price of its day. */
CREATE TABLE shop.product (
	sku text PRIMARY KEY,
	price numeric(14,2) NOT NULL CHECK (price > 0)
);

/*
 *	status			PENDING, then CONFIRMED (paid and reserved) or CANCELLED, for good
 *	payment_status	approved | declined; NULL: no answer yet
 *	inventory_status	reserved | rejected; NULL: no answer yet
 *	cancel_reason	PAYMENT_DECLINED | INVENTORY_REJECTED
 */
CREATE TABLE shop.orders (
	order_id text PRIMARY KEY,
	customer_id text NOT NULL,
	amount numeric(14,2) NOT NULL CHECK (amount > 0),
	currency text NOT NULL,
	items jsonb NOT NULL,
	status text NOT NULL DEFAULT 'PENDING' CHECK (status IN ('PENDING', 'CONFIRMED', 'CANCELLED')),
	payment_status text,
	payment_detail text,
	inventory_status text,
	inventory_reason text,
	cancel_reason text,
	correlation_id text NOT NULL,
	placed_at timestamptz NOT NULL,
	payment_at timestamptz,
	inventory_at timestamptz,
	settled_at timestamptz
);
CREATE INDEX orders_pending ON shop.orders (placed_at) WHERE status = 'PENDING';

/* What was answered to a POST, by its Idempotency-Key. */
CREATE TABLE shop.request (
	idempotency_key text PRIMARY KEY,
	body jsonb NOT NULL,
	order_id text NOT NULL,
	answer jsonb NOT NULL,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION shop.iso8601(at timestamptz) RETURNS text
LANGUAGE sql STABLE AS $$
	SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

/* For GET /orders/{id}; NULL: no such order. */
CREATE FUNCTION shop.order_json(p_order text) RETURNS jsonb
LANGUAGE sql STABLE AS $$
	SELECT jsonb_build_object('orderId', o.order_id, 'customerId', o.customer_id,
		'amount', o.amount, 'currency', o.currency, 'items', o.items, 'status', o.status,
		'paymentStatus', o.payment_status, 'paymentDetail', o.payment_detail,
		'inventoryStatus', o.inventory_status, 'inventoryReason', o.inventory_reason,
		'cancelReason', o.cancel_reason, 'correlationId', o.correlation_id,
		'placedAt', shop.iso8601(o.placed_at), 'paymentAt', shop.iso8601(o.payment_at),
		'inventoryAt', shop.iso8601(o.inventory_at), 'settledAt', shop.iso8601(o.settled_at))
	FROM shop.orders o WHERE o.order_id = p_order
$$;

/* The price of all items; an sku that is not sold is an error. */
CREATE FUNCTION shop.price_items(p_items jsonb) RETURNS numeric
LANGUAGE plpgsql STABLE AS $$
DECLARE
	v_unknown text;
	v_amount numeric;
BEGIN
	SELECT sum(p.price * (i->>'quantity')::bigint), min(i->>'sku') FILTER (WHERE p.sku IS NULL)
	INTO v_amount, v_unknown
	FROM jsonb_array_elements(p_items) i LEFT JOIN shop.product p ON p.sku = i->>'sku';
	IF v_unknown IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'OBX01',
			MESSAGE = format('sku "%s" is not sold', v_unknown);
	END IF;
	RETURN v_amount;
END $$;

/*
 * Notes a request with its answer before it is carried out; false: the key is known, or its first
 * request is under way, or was until after this transaction's snapshot (repeatable read).  Who else
 * uses the key finds the row, and is not waited for: an advisory lock could be taken by any role.
 */
CREATE FUNCTION shop.note_request(p_key text, p_body jsonb, p_order text, p_answer jsonb)
RETURNS boolean
LANGUAGE plpgsql SET lock_timeout = '50ms' AS $$
BEGIN
	INSERT INTO shop.request (idempotency_key, body, order_id, answer)
	VALUES (p_key, p_body, p_order, p_answer)
	ON CONFLICT DO NOTHING;
	RETURN FOUND;
EXCEPTION WHEN lock_not_available OR serialization_failure THEN
	RETURN false;
END $$;

/*
 * POST /orders: the order and its event in one transaction.  verdict: placed,
 * repeated (the first answer again), mismatch (the key came with another body)
 * or in_progress (a request with the key is under way).
 */
CREATE FUNCTION shop.place_order(p_key text, p_body jsonb, p_correlation text,
	p_traceparent text DEFAULT NULL, OUT verdict text, OUT answer jsonb)
LANGUAGE plpgsql AS $$
DECLARE
	known shop.request;
	placed shop.orders;
	v_order text := 'ord-' || replace(gen_random_uuid()::text, '-', '');
	v_at timestamptz := clock_timestamp();
BEGIN
	answer := jsonb_build_object('orderId', v_order, 'status', 'PENDING',
		'createdAt', shop.iso8601(v_at));
	IF NOT shop.note_request(p_key, p_body, v_order, answer) THEN
		SELECT * INTO known FROM shop.request r WHERE r.idempotency_key = p_key;
		verdict := CASE WHEN NOT FOUND THEN 'in_progress'
			WHEN known.body = p_body THEN 'repeated' ELSE 'mismatch' END;
		answer := CASE WHEN verdict = 'repeated' THEN known.answer END;
		RETURN;
	END IF;
	INSERT INTO shop.orders (order_id, customer_id, amount, currency, items, correlation_id,
		placed_at)
	VALUES (v_order, p_body->>'customerId', shop.price_items(p_body->'items'),
		coalesce(p_body->>'currency', 'EUR'),
		(SELECT jsonb_agg(jsonb_build_object('sku', i->'sku', 'quantity', i->'quantity') ORDER BY n)
			FROM jsonb_array_elements(p_body->'items') WITH ORDINALITY e (i, n)),
		coalesce(nullif(p_correlation, ''), v_order), v_at)
	RETURNING * INTO placed;
	PERFORM set_config('outbox.correlation_id', placed.correlation_id, true),
		set_config('outbox.traceparent',
			coalesce(p_traceparent, current_setting('outbox.traceparent', true), ''), true);
	PERFORM outbox.emit('orders.created', placed.order_id, 'OrderCreated', jsonb_build_object(
		'orderId', placed.order_id,
		'customerId', placed.customer_id,
		'amount', placed.amount,
		'currency', placed.currency,
		'items', placed.items,
		'createdAt', shop.iso8601(placed.placed_at)));
	verdict := 'placed';
END $$;

/* Locks the order an answer is for; an order this service never placed cannot come later. */
CREATE FUNCTION shop.lock_order(p_order text) RETURNS shop.orders
LANGUAGE plpgsql AS $$
DECLARE
	found_order shop.orders;
BEGIN
	SELECT * INTO found_order FROM shop.orders o WHERE o.order_id = p_order FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'OBX01',
			MESSAGE = format('order "%s" was never placed', p_order);
	END IF;
	RETURN found_order;
END $$;

/* Decides a PENDING order by the answers so far; a cancelled one is announced once. */
CREATE FUNCTION shop.settle(o shop.orders) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	v_reason text;
BEGIN
	IF o.status <> 'PENDING' THEN
		RETURN 'settled_before';
	END IF;
	v_reason := CASE WHEN o.payment_status = 'declined' THEN 'PAYMENT_DECLINED'
		WHEN o.inventory_status = 'rejected' THEN 'INVENTORY_REJECTED' END;
	IF v_reason IS NOT NULL THEN
		UPDATE shop.orders SET status = 'CANCELLED', cancel_reason = v_reason,
			settled_at = clock_timestamp()
		WHERE order_id = o.order_id RETURNING * INTO o;
		PERFORM outbox.emit('orders.cancelled', o.order_id, 'OrderCancelled', jsonb_build_object(
			'orderId', o.order_id,
			'customerId', o.customer_id,
			'reason', o.cancel_reason,
			'cancelledAt', shop.iso8601(o.settled_at)));
		RETURN 'cancelled';
	ELSIF o.payment_status = 'approved' AND o.inventory_status = 'reserved' THEN
		UPDATE shop.orders SET status = 'CONFIRMED', settled_at = clock_timestamp()
		WHERE order_id = o.order_id;
		RETURN 'confirmed';
	END IF;
	RETURN 'waiting';
END $$;

/* payments.completed; of several answers the first one counts. */
CREATE FUNCTION shop.settle_payment(event jsonb) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	o shop.orders := shop.lock_order(event->>'orderId');
BEGIN
	IF o.payment_status IS NOT NULL THEN
		RETURN 'repeated';
	END IF;
	UPDATE shop.orders SET payment_status = event->>'status', payment_at = clock_timestamp(),
		payment_detail = coalesce(event->>'detail', event->>'reason')
	WHERE order_id = o.order_id RETURNING * INTO o;
	RETURN shop.settle(o);
END $$;

/* inventory.reserved; of several answers the first one counts. */
CREATE FUNCTION shop.settle_inventory(event jsonb) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	o shop.orders := shop.lock_order(event->>'orderId');
BEGIN
	IF o.inventory_status IS NOT NULL THEN
		RETURN 'repeated';
	END IF;
	UPDATE shop.orders SET inventory_status = event->>'status', inventory_at = clock_timestamp(),
		inventory_reason = event->>'reason'
	WHERE order_id = o.order_id RETURNING * INTO o;
	RETURN shop.settle(o);
END $$;

/* Topics it emits to and those it reads, whose dead letters it emits. */
SELECT outbox.declare_topic('orders.created', 6);
SELECT outbox.declare_topic('orders.cancelled', 6);
SELECT outbox.declare_topic('payments.completed', 6);
SELECT outbox.declare_topic('inventory.reserved', 6);
SELECT outbox.grant_consume('order_service');
SELECT outbox.grant_topic('orders.created', 'order_service');
SELECT outbox.grant_topic('orders.cancelled', 'order_service');
GRANT USAGE ON SCHEMA shop TO order_service;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA shop TO order_service;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA shop FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA shop TO order_service;

/* Seed: something to sell; a car is more than bob has, unicorns are out of stock. */
INSERT INTO shop.product (sku, price)
VALUES ('book', 20.00), ('pen', 1.50), ('car', 25000.00), ('unicorn', 999.00);
