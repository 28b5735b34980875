/* SPDX-License-Identifier: PostgreSQL
 *
 * alerts.h
 *	  Which alerts are firing: one trigger at the begin, one resolve at the end,
 *	  also across a restart when there is a state file.
 *
 * Any thread may call; one lock guards the table.
 */
#ifndef OUTBOX_ALERTS_H
#define OUTBOX_ALERTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alert_rules.h"

/* Names of the reasons, e.g. ["lag_seconds", "stall"]. */
extern json_t *outbox_alert_reasons(unsigned reasons);

/* Can the setting state_file ("": none) be read, if it is there, and written? */
extern bool outbox_alerts_check(char *error, size_t size);

/*
 * Reads the state file ("": none, nothing outlives the process) and writes it
 * once, to see that it can be.  false: it cannot, logged.
 */
extern bool outbox_alerts_open(void);

/* Writes the state file; also the sinks' callback. */
extern void outbox_alerts_save(void);

/* Does an alert of this key fire?  *since_ms (NULL allowed): from when on. */
extern bool outbox_alerts_firing(const char *key, int64_t *since_ms);

/*
 * Notes and sends a change.  alert: see sink_body.h, without since and at, which are
 * added; taken over.
 */
extern void outbox_alerts_change(OutboxAlertChange change, json_t *alert);

/* Ends the alerts of a kind that known() does not know any more. */
extern void outbox_alerts_sweep(const char *kind, bool (*known)(json_t *alert));

/*
 * Sends firing alerts again to sinks that forget, when repeat_seconds are over since the last time.
 */
extern void outbox_alerts_repeat(void);

#endif /* OUTBOX_ALERTS_H */
