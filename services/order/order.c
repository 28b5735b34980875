/* SPDX-License-Identifier: PostgreSQL
 *
 * order.c
 *	  outbox-order: settles orders by the answers of payment and inventory.
 *
 * The work is that of the functions in examples/shop/order.sql; orders come in
 * over HTTP (order_http.c).
 */
#include <string.h>

#include "order_http.h"
#include "services/runtime/service.h"

static const char payment_sql[] = "SELECT shop.settle_payment($1::jsonb)";
static const char inventory_sql[] = "SELECT shop.settle_inventory($1::jsonb)";

/* An answer: orderId, and status one of two words. */
static OutboxVerdict
decode_answer(const OutboxRecord *record, OutboxCall *call, const char *sql, const char *yes,
			  const char *no)
{
	json_t		 *event = outbox_decode_object(record, call);
	OutboxVerdict verdict = OUTBOX_VERDICT_REJECT;
	const char	 *status;

	if (event == NULL)
		return verdict;
	if (outbox_decode_require(event, "orderId", JSON_STRING, call) &&
		outbox_decode_require(event, "status", JSON_STRING, call))
	{
		status = json_string_value(json_object_get(event, "status"));
		if (strcmp(status, yes) != 0 && strcmp(status, no) != 0)
			verdict =
				outbox_call_reject(call, "field \"status\" is neither \"%s\" nor \"%s\"", yes, no);
		else
		{
			outbox_call_begin(call, sql);
			outbox_call_add(call, (const char *) record->value, record->value_len);
			verdict = OUTBOX_VERDICT_CALL;
		}
	}
	json_decref(event);
	return verdict;
}

static OutboxVerdict
decode_payment_completed(const OutboxRecord *record, OutboxCall *call)
{
	return decode_answer(record, call, payment_sql, "approved", "declined");
}

static OutboxVerdict
decode_inventory_reserved(const OutboxRecord *record, OutboxCall *call)
{
	return decode_answer(record, call, inventory_sql, "reserved", "rejected");
}

static const OutboxHandler order_handlers[] = {
	{"payments.completed", "PaymentCompleted", decode_payment_completed, NULL},
	{"inventory.reserved", "InventoryReserved", decode_inventory_reserved, NULL},
	{NULL, NULL, NULL, NULL},
};

static const OutboxService order_service = {
	.name = "outbox-order",
	.summary = "places orders over HTTP and settles them",
	.group = "order-service",
	.http_port = "8180",
	.handlers = order_handlers,
	.routes = order_routes,
};

int
main(int argc, char **argv)
{
	return outbox_service_main(argc, argv, &order_service);
}
