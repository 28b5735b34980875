/* SPDX-License-Identifier: PostgreSQL
 *
 * metrics.h
 *	  Counters, gauges and histograms, written in Prometheus' text format.
 *
 * Any thread may call; one lock guards all series.
 */
#ifndef OUTBOX_METRICS_H
#define OUTBOX_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef enum OutboxMetricType
{
	OUTBOX_METRIC_COUNTER,
	OUTBOX_METRIC_GAUGE,
	OUTBOX_METRIC_HISTOGRAM,
} OutboxMetricType;

struct OutboxMetricSeries;

/* A static object; fill name, help and type, and buckets for a histogram. */
typedef struct OutboxMetric
{
	const char		*name;
	const char		*help;
	OutboxMetricType type;
	const double	*buckets; /* rising upper bounds, without +Inf */
	size_t			 bucket_count;

	struct OutboxMetricSeries *series; /* metrics.c: under its lock */
	struct OutboxMetric		  *next_metric;
	bool					   registered;
} OutboxMetric;

/* The bounds OpenTelemetry uses for durations in seconds. */
extern const double outbox_metric_seconds[14];

/*
 * Labels: name and value by turns, ended by NULL.  Each distinct combination is
 * a series, so values must be few: never a key or an event id.
 */
extern void outbox_metric_add(OutboxMetric *metric, double amount, ...) __attribute__((sentinel));
extern void outbox_metric_set(OutboxMetric *metric, double value, ...) __attribute__((sentinel));

/* Observe value, count times. */
extern void outbox_metric_observe(OutboxMetric *metric, double value, unsigned count, ...)
	__attribute__((sentinel));

/* Drop all series of a gauge before it is filled anew. */
extern void outbox_metric_clear(OutboxMetric *metric);

/* write adds families of its own to the text, from any HTTP thread; set once before they start. */
extern void outbox_metrics_collect(void (*write)(FILE *out));

/* before, then name="value" with the value escaped. */
extern void outbox_metrics_write_label(FILE *out, const char *before, const char *name,
									   const char *value);

/* All of it as text, malloc'ed; NULL when memory is short. */
extern char *outbox_metrics_text(void);

#endif /* OUTBOX_METRICS_H */
