/* SPDX-License-Identifier: PostgreSQL
 *
 * gateway.h
 *	  The HTTP payment gateway of outbox-payment.
 *
 * POST <url>/charges and POST <url>/refunds with the event's payload and the header
 * Idempotency-Key: charge-<order id> or refund-<order id>, so that whatever event and whoever asks,
 * it is done once.  2xx: done; 402 (charges): declined; 404 (refunds): nothing to
 * refund; 408, 425, 429, 5xx, no answer in time: wait and try again; any other 4xx: the record
 * fails.
 */
#ifndef OUTBOX_PAYMENT_GATEWAY_H
#define OUTBOX_PAYMENT_GATEWAY_H

#include "services/runtime/service.h"

typedef enum GatewayAnswer
{
	GATEWAY_APPROVED,
	GATEWAY_DECLINED,
} GatewayAnswer;

/* Settings of the gateway, ended by a NULL name. */
extern const OutboxOption gateway_options[];

/* Once, before the threads start. */
extern bool gateway_start(void);
extern bool gateway_enabled(void);

/* CALL, FAIL or WAIT; with CALL *answer is set.  Any thread. */
extern OutboxVerdict gateway_charge(const char *payload, OutboxCall *call, GatewayAnswer *answer);
extern OutboxVerdict gateway_refund(const char *payload, OutboxCall *call);

#endif /* OUTBOX_PAYMENT_GATEWAY_H */
