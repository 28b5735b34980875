/* SPDX-License-Identifier: PostgreSQL
 *
 * metrics.c
 *	  A registry of series and its text form (Prometheus exposition format 0.0.4).
 *
 * Runs in the services, any thread.
 */
#define _GNU_SOURCE
#include "metrics.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"
#include "src/common/utf8.h"

#define LABEL_SIZE 512
#define SERIES_MAX 1000 /* of one metric: labels made of ids must not fill the memory */

typedef struct OutboxMetricSeries
{
	struct OutboxMetricSeries *next;
	double					   value;	 /* counter, gauge; histogram: the sum */
	uint64_t				   count;	 /* histogram */
	uint64_t				  *buckets;	 /* histogram: not cumulated */
	char					   labels[]; /* name="value",... */
} OutboxMetricSeries;

const double outbox_metric_seconds[14] = {
	0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
};

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static OutboxMetric	  *first_metric;	 /* guarded by registry_lock */
static void (*write_further)(FILE *out); /* written before the threads start */

static void
format_labels(char *buffer, size_t size, va_list labels)
{
	size_t		used = 0;
	const char *name;
	const char *value;

	buffer[0] = '\0';
	while ((name = va_arg(labels, const char *)) != NULL)
	{
		value = va_arg(labels, const char *);
		if (used + strlen(name) + 2 * strlen(value) + 5 > size)
			return;
		if (used > 0)
			buffer[used++] = ',';
		used = (size_t) (stpcpy(stpcpy(buffer + used, name), "=\"") - buffer);
		for (; *value != '\0'; value++)
		{
			if (*value == '"' || *value == '\\' || *value == '\n')
				buffer[used++] = '\\';
			buffer[used++] = *value == '\n' ? 'n' : *value;
		}
		buffer[used++] = '"';
		buffer[used] = '\0';
	}
	outbox_text_mend(buffer, SIZE_MAX);
}

/*
 * Finds or makes the series; NULL when memory is short or there are too many.  Caller holds
 * registry_lock.
 */
static OutboxMetricSeries *
find_series(OutboxMetric *metric, const char *labels)
{
	OutboxMetricSeries	*series;
	OutboxMetricSeries **tail = &metric->series;
	int					 count = 0;

	if (!metric->registered)
	{
		OutboxMetric **last = &first_metric;

		while (*last != NULL)
			last = &(*last)->next_metric;
		*last = metric;
		metric->registered = true;
	}
	for (; *tail != NULL; tail = &(*tail)->next)
	{
		if (strcmp((*tail)->labels, labels) == 0)
			return *tail;
		count++;
	}
	series = count < SERIES_MAX ? calloc(1, sizeof(*series) + strlen(labels) + 1) : NULL;
	if (series == NULL)
		return NULL;
	strcpy(series->labels, labels);
	if (metric->type == OUTBOX_METRIC_HISTOGRAM)
	{
		series->buckets = calloc(metric->bucket_count + 1, sizeof(uint64_t));
		if (series->buckets == NULL)
		{
			free(series);
			return NULL;
		}
	}
	*tail = series;
	return series;
}

/* The series of these labels, or NULL; registry_lock is held either way. */
static OutboxMetricSeries *
lock_series(OutboxMetric *metric, va_list labels)
{
	char text[LABEL_SIZE];

	format_labels(text, sizeof(text), labels);
	pthread_mutex_lock(&registry_lock);
	return find_series(metric, text);
}

void
outbox_metric_add(OutboxMetric *metric, double amount, ...)
{
	OutboxMetricSeries *series;
	va_list				labels;

	va_start(labels, amount);
	series = lock_series(metric, labels);
	va_end(labels);
	if (series != NULL)
		series->value += amount;
	pthread_mutex_unlock(&registry_lock);
}

void
outbox_metric_set(OutboxMetric *metric, double value, ...)
{
	OutboxMetricSeries *series;
	va_list				labels;

	va_start(labels, value);
	series = lock_series(metric, labels);
	va_end(labels);
	if (series != NULL)
		series->value = value;
	pthread_mutex_unlock(&registry_lock);
}

void
outbox_metric_observe(OutboxMetric *metric, double value, unsigned count, ...)
{
	OutboxMetricSeries *series;
	va_list				labels;
	size_t				bucket = 0;

	while (bucket < metric->bucket_count && value > metric->buckets[bucket])
		bucket++;
	va_start(labels, count);
	series = lock_series(metric, labels);
	va_end(labels);
	if (series != NULL)
	{
		series->buckets[bucket] += count;
		series->count += count;
		series->value += value * count;
	}
	pthread_mutex_unlock(&registry_lock);
}

void
outbox_metric_clear(OutboxMetric *metric)
{
	pthread_mutex_lock(&registry_lock);
	while (metric->series != NULL)
	{
		OutboxMetricSeries *series = metric->series;

		metric->series = series->next;
		free(series->buckets);
		free(series);
	}
	pthread_mutex_unlock(&registry_lock);
}

static void
write_histogram(FILE *out, const OutboxMetric *metric, const OutboxMetricSeries *series)
{
	const char *comma = series->labels[0] != '\0' ? "," : "";
	uint64_t	sum = 0;

	for (size_t i = 0; i < metric->bucket_count; i++)
	{
		sum += series->buckets[i];
		fprintf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", metric->name, series->labels, comma,
				metric->buckets[i], (unsigned long long) sum);
	}
	fprintf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", metric->name, series->labels, comma,
			(unsigned long long) series->count);
	fprintf(out, "%s_sum{%s} %.17g\n", metric->name, series->labels, series->value);
	fprintf(out, "%s_count{%s} %llu\n", metric->name, series->labels,
			(unsigned long long) series->count);
}

static void
write_metric(FILE *out, const OutboxMetric *metric)
{
	static const char *const type_names[] = {"counter", "gauge", "histogram"};

	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help, metric->name,
			type_names[metric->type]);
	for (const OutboxMetricSeries *series = metric->series; series != NULL; series = series->next)
	{
		if (metric->type == OUTBOX_METRIC_HISTOGRAM)
			write_histogram(out, metric, series);
		else if (series->labels[0] != '\0')
			fprintf(out, "%s{%s} %.17g\n", metric->name, series->labels, series->value);
		else
			fprintf(out, "%s %.17g\n", metric->name, series->value);
	}
}

void
outbox_metrics_collect(void (*write)(FILE *out))
{
	write_further = write;
}

void
outbox_metrics_write_label(FILE *out, const char *before, const char *name, const char *value)
{
	size_t left = strlen(value);
	size_t width;

	fprintf(out, "%s%s=\"", before, name);
	for (; left > 0; value += width, left -= width)
	{
		width = outbox_utf8_char(value, left);
		if (*value == '"' || *value == '\\' || *value == '\n')
			putc('\\', out);
		if (width <= 1)
			putc(width == 0 ? '?' : *value == '\n' ? 'n' : *value, out);
		else
			fwrite(value, 1, width, out);
		width += width == 0;
	}
	putc('"', out);
}

char *
outbox_metrics_text(void)
{
	char  *text = NULL;
	size_t size = 0;
	FILE  *out = open_memstream(&text, &size);

	if (out == NULL)
		return NULL;
	pthread_mutex_lock(&registry_lock);
	for (const OutboxMetric *metric = first_metric; metric != NULL; metric = metric->next_metric)
		write_metric(out, metric);
	pthread_mutex_unlock(&registry_lock);
	if (write_further != NULL)
		write_further(out);
	fclose(out);
	return text;
}
