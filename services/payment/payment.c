/* SPDX-License-Identifier: PostgreSQL
 *
 * payment.c
 *	  outbox-payment: charges orders, refunds cancelled ones.
 *
 * The work is that of the functions in examples/shop/payment.sql.  With
 * gateway_url set, an order the database does not know yet is charged at an HTTP
 * gateway first, and one that it has charged is refunded there when it is cancelled (gateway.c).
 * Both may be asked more than once, by its key a gateway does it once.
 */
#include <string.h>

#include "gateway.h"
#include "services/runtime/service.h"

#define GATEWAY_VALUE 1 /* of the values: what the gateway said; NULL: there is none */

static const char charge_sql[] = "SELECT shop.charge($1::jsonb, $2)";
static const char refund_sql[] = "SELECT shop.refund($1::jsonb, $2)";

static OutboxVerdict
decode_order_created(const OutboxRecord *record, OutboxCall *call)
{
	json_t		 *event = outbox_decode_object(record, call);
	OutboxVerdict verdict = OUTBOX_VERDICT_REJECT;

	if (event == NULL)
		return verdict;
	if (outbox_decode_require(event, "orderId", JSON_STRING, call) &&
		outbox_decode_require(event, "customerId", JSON_STRING, call) &&
		outbox_decode_require(event, "amount", JSON_REAL, call) &&
		outbox_decode_require(event, "currency", JSON_STRING, call))
	{
		if (json_number_value(json_object_get(event, "amount")) <= 0)
			verdict = outbox_call_reject(call, "field \"amount\" is not above 0");
		else
		{
			outbox_call_begin(call, charge_sql);
			outbox_call_add(call, (const char *) record->value, record->value_len);
			outbox_call_add_text(call, NULL); /* GATEWAY_VALUE */
			verdict = OUTBOX_VERDICT_CALL;
		}
	}
	json_decref(event);
	return verdict;
}

static OutboxVerdict
decode_order_cancelled(const OutboxRecord *record, OutboxCall *call)
{
	OutboxVerdict verdict = outbox_decode_call(record, "orderId", refund_sql, call);

	if (verdict == OUTBOX_VERDICT_CALL)
		outbox_call_add_text(call, NULL); /* GATEWAY_VALUE */
	return verdict;
}

/* told: what shop.begin_charges says of the order. */
static OutboxVerdict
charge_at_gateway(const OutboxRecord *record, const char *told, OutboxCall *call)
{
	GatewayAnswer answer = GATEWAY_APPROVED;
	OutboxVerdict verdict;

	(void) record;
	if (strcmp(told, "known") == 0 || strcmp(told, "cancelled") == 0)
	{
		outbox_call_set_text(call, GATEWAY_VALUE, "not_asked");
		return OUTBOX_VERDICT_CALL;
	}
	/* Of a cancelled order that may have been charged, too: so it is known whether it was. */
	verdict = gateway_charge(call->values[0], call, &answer);
	if (verdict != OUTBOX_VERDICT_CALL)
		return verdict;
	if (answer == GATEWAY_APPROVED && strcmp(told, "undo") == 0)
	{
		verdict = gateway_refund(call->values[0], call);
		outbox_call_set_text(call, GATEWAY_VALUE, "undone");
		return verdict;
	}
	outbox_call_set_text(call, GATEWAY_VALUE, answer == GATEWAY_APPROVED ? "approved" : "declined");
	return verdict;
}

/* told: what shop.charged_by_gateway says of the order. */
static OutboxVerdict
refund_at_gateway(const OutboxRecord *record, const char *told, OutboxCall *call)
{
	bool charged = strcmp(told, "charged") == 0;

	(void) record;
	outbox_call_set_text(call, GATEWAY_VALUE, charged ? "refunded" : "not_asked");
	return charged ? gateway_refund(call->values[0], call) : OUTBOX_VERDICT_CALL;
}

static const OutboxCallOut charge_call = {"SELECT shop.begin_charges($1::text[])",
										  charge_at_gateway};
static const OutboxCallOut refund_call = {"SELECT shop.charged_by_gateway($1::text[])",
										  refund_at_gateway};

static const OutboxHandler *
make_handlers(void)
{
	static OutboxHandler handlers[] = {
		{"orders.created", "OrderCreated", decode_order_created, NULL},
		{"orders.cancelled", "OrderCancelled", decode_order_cancelled, NULL},
		{NULL, NULL, NULL, NULL},
	};

	handlers[0].call_out = gateway_enabled() ? &charge_call : NULL;
	handlers[1].call_out = gateway_enabled() ? &refund_call : NULL;
	return handlers;
}

static const OutboxService payment_service = {
	.name = "outbox-payment",
	.summary = "charges orders, refunds cancelled ones",
	.group = "payment-service",
	.http_port = "8181",
	.options = gateway_options,
	.start = gateway_start,
	.make_handlers = make_handlers,
};

int
main(int argc, char **argv)
{
	return outbox_service_main(argc, argv, &payment_service);
}
