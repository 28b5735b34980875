/* SPDX-License-Identifier: PostgreSQL
 *
 * service_check.h
 *	  What a service's settings are judged by before it starts.
 */
#ifndef OUTBOX_SERVICE_CHECK_H
#define OUTBOX_SERVICE_CHECK_H

#include "service.h"

/* At start, main thread, before the others: the service that is judged. */
extern void outbox_service_check_begin(const OutboxService *service);

/* As OutboxProgram has them. */
extern bool outbox_service_check(const OutboxConfig *config, char *error, size_t size);
extern int outbox_service_check_online(char *error, size_t size);

#endif /* OUTBOX_SERVICE_CHECK_H */
