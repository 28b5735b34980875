/* SPDX-License-Identifier: PostgreSQL
 *
 * sender.h
 *	  The sender: the relay's child process, which alone speaks Kafka.
 *
 * One main thread; librdkafka has its own.  Every struct here is written by
 * the main thread only, except what watch.c and errors.c say.  Functions that
 * can fail return false and fill *failure; the caller logs it and answers
 * FAILED.  See README.md for the states.
 */
#ifndef OUTBOX_SENDER_H
#define OUTBOX_SENDER_H

#include <stdbool.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>

#include "src/common/error_class.h"
#include "src/common/fault.h"
#include "src/common/rate_plan.h"
#include "src/common/wire.h"

/* A fault point of the sender. */
#define OUTBOX_FAULT(name) OUTBOX_FAULT_AT(outbox_fault_pass, name)

#define OUTBOX_TOPIC_NAME_SIZE		256	 /* Kafka's limit is 249 */
#define OUTBOX_CURSOR_METADATA_SIZE 4097 /* Kafka's limit and a terminator */

/* Why something could not be done. */
typedef struct OutboxFailure
{
	OutboxErrorClass class;
	int	 kafka_error; /* rd_kafka_resp_err_t, 0 if none */
	char tried[64];
	char text[640];
} OutboxFailure;

/* One librdkafka property given by OPEN. */
typedef struct OutboxProperty
{
	char *name;
	char *value;
} OutboxProperty;

/* What compression can make of a record. */
typedef enum OutboxCodec
{
	OUTBOX_CODEC_NONE,
	OUTBOX_CODEC_COPYING, /* repeats are short, all else is copied: LZ4, Snappy */
	OUTBOX_CODEC_OTHER,
} OutboxCodec;

/* What OPEN said. */
typedef struct OutboxSettings
{
	OutboxProperty *properties;
	int				property_count;
	bool			exactly_once; /* else at_least_once */
	bool			cloudevents;  /* else the event's own headers only */
	OutboxCodec		codec;
	char		   *group;
	char		   *alive_group;  /* of the living senders; NULL = none is joined */
	char		   *alive_client; /* our client id there */
	char		   *cursor_topic;
	char		   *source;
	char		   *transactional_id;
} OutboxSettings;

/* A topic's settings in Kafka that decide what it takes. */
typedef struct OutboxTopicLimits
{
	bool	known;			   /* else nothing below counts */
	bool	compacted;		   /* cleanup.policy has compact: no record without a key */
	int64_t max_message_bytes; /* INT64_MAX: not told */
	int64_t before_max_ms; /* message.timestamp.before.max.ms; -1: not told, as in the next two */
	int64_t after_max_ms;  /* message.timestamp.after.max.ms */
	int64_t difference_max_ms; /* message.timestamp.difference.max.ms, before Kafka 4 */
	int64_t read_us;		   /* when Kafka was asked, 0: never */
} OutboxTopicLimits;

/* A topic of which the sender has heard: declared, or sent to. */
typedef struct OutboxTopic
{
	char				name[OUTBOX_TOPIC_NAME_SIZE];
	size_t				name_len;
	rd_kafka_topic_t   *handle; /* of the current producer, or NULL */
	/* offsets acknowledged to the current producer, by partition; -1 none */
	int64_t			   *newest;
	int32_t				newest_count;
	int32_t				known_partitions; /* when the current producer opened it */
	/* has it still as many? a partition has its first record of this producer */
	bool				unsure;
	uint64_t			used_in_batch; /* serial of the last batch that used it */
	uint32_t			first_event;   /* its first event in that batch */
	/* serial of the last batch that had an event of it; for the next two */
	uint64_t			seen_in_batch;
	/* the first event in that batch that Kafka has not judged; UINT32_MAX: none */
	uint32_t			unanswered_from;
	bool				refused; /* in that batch, as a whole */
	OutboxTopicLimits	limits;
	bool				limits_denied_told; /* that they may not be read is in the log */
	/* last used since it refused requests larger than its limit; 0: has not */
	int64_t				crowded_us;
	int64_t				absent_us; /* when Kafka was last found not to have it; 0: never */
	bool				declared;  /* the fields below were given */
	bool				present;   /* known to exist in Kafka */
	bool				absent;	   /* the current producer did not find it when it opened it */
	int32_t				partitions;
	int16_t				replication;
	int64_t				retention_ms;		/* -1 for ever, INT64_MIN broker's default */
	int64_t				max_message_bytes;	/* INT64_MIN broker's default */
	char				cleanup_policy[64]; /* empty: broker's default */
	char				flaw[320];			/* what is wrong with the declaration, empty: nothing */
	rd_kafka_resp_err_t create_error;		/* why it is not present; 0: not tried */
	char				create_text[640];	/* the same for people */
} OutboxTopic;

/* A stored cursor. */
typedef struct OutboxCursor
{
	bool	present;
	int64_t batch_no;
	size_t	metadata_len;
	char	metadata[OUTBOX_CURSOR_METADATA_SIZE];
} OutboxCursor;

/* Who is in the group of the living. */
typedef struct OutboxMembers
{
	bool			 allowed; /* to join and to look; else text says why not */
	bool			 joined;  /* our own member is among them */
	char			 text[640];
	OutboxWireBuffer list; /* client id and host of each, as in MEMBERS */
	uint16_t		 count;
} OutboxMembers;

/* The first delivery of a batch that failed, and was not refused. */
typedef struct OutboxFailedDelivery
{
	rd_kafka_resp_err_t error; /* 0: none */
	OutboxTopic		   *topic;
	int32_t				partition;	/* -1: not chosen yet */
	int64_t				time_ms;	/* time stamp of the record */
	bool				leaderless; /* its partition, as was found when it was explained */
} OutboxFailedDelivery;

/* The outcome of END that is not a failure. */
typedef struct OutboxBatchResult
{
	bool	 refused;  /* refusals.c has what */
	bool	 fence;	   /* before the batch comes again */
	uint32_t told;	   /* events that are refused */
	uint32_t suspects; /* records refused together, one of which may be to blame; 0: none */
	/* how many a request will have at most when the batch comes again; 0: no limit */
	uint32_t per_request;
	char	 refused_text[640]; /* of the first that is told, else of the suspects */
	uint64_t batch_no;
	uint32_t events;
	uint64_t bytes;
	uint64_t duration_us;
	bool	 suspect;
} OutboxBatchResult;

/* Records of one partition that Kafka has refused together. */
typedef struct OutboxSuspects
{
	uint32_t	 count; /* 0: none */
	OutboxTopic *topic;
	int32_t		 error;
} OutboxSuspects;

/* errors.c */
extern void outbox_failure_set(OutboxFailure *failure, OutboxErrorClass class, int kafka_error,
							   const char *tried, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
extern void outbox_failure_from_code(OutboxFailure *failure, rd_kafka_resp_err_t code,
									 const char *tried, const char *text);
extern void outbox_failure_from_error(OutboxFailure *failure, rd_kafka_error_t *error,
									  const char *tried);
extern void outbox_failure_precede(OutboxFailure *failure, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern void outbox_failure_append(OutboxFailure *failure, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern OutboxErrorClass outbox_error_classify(rd_kafka_resp_err_t code);
extern bool outbox_error_is_refusal(rd_kafka_resp_err_t code);
extern bool outbox_error_is_whole_topic(rd_kafka_resp_err_t code);
extern void outbox_note_client_error(rd_kafka_resp_err_t code, const char *text);
extern void outbox_forget_client_error(void);
extern bool outbox_is_unreachable(void);
extern OutboxErrorClass outbox_client_error_class(void);
extern int outbox_certificate_verify(rd_kafka_t *client, const char *broker, int32_t broker_id,
									 int *x509_error, int depth, const char *certificate,
									 size_t size, char *error, size_t error_size, void *opaque);
extern void outbox_note_denied_topic(const char *log_text);
extern bool outbox_take_denied_topic(char *name, size_t size);
extern void outbox_note_shrunk_topic(const char *log_text);
extern const OutboxTopic *outbox_take_shrunk_topic(bool (*wanted)(const OutboxTopic *topic));
extern void outbox_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern int64_t outbox_clock_us(void);

/* settings.c */
extern bool outbox_settings_read(OutboxSettings *settings, OutboxWireReader *body,
								 OutboxFailure *failure);
extern void outbox_settings_free(OutboxSettings *settings);
extern rd_kafka_conf_t *outbox_producer_conf(const OutboxSettings *settings, uint32_t per_request,
											 int64_t batch_bytes, const OutboxDeadlines *grown,
											 OutboxFailure *failure);
extern rd_kafka_conf_t *outbox_cursor_conf(const OutboxSettings *settings, bool stable,
										   OutboxFailure *failure);
extern void outbox_settings_hear_notices(rd_kafka_t *producer, const OutboxSettings *settings);
extern rd_kafka_conf_t *outbox_alive_conf(const OutboxSettings *settings, OutboxFailure *failure);
extern void outbox_settings_refused(const OutboxSettings *settings, const char *error,
									OutboxFailure *failure);
extern bool outbox_effective_properties(const OutboxSettings *settings, char **text,
										OutboxFailure *failure);

/* explain.c */
extern int64_t outbox_explain_transaction_limit(rd_kafka_t *client);
extern void outbox_explain_transaction_timeout(rd_kafka_t *client, int64_t ours_ms,
											   OutboxFailure *failure);
extern void outbox_explain_delivery(rd_kafka_t *client, OutboxFailedDelivery *failed,
									OutboxFailure *failure);
extern void outbox_explain_without_values(const OutboxSettings *settings, char *text);
extern void outbox_explain_size(rd_kafka_t *client, size_t bytes, char *text, size_t size);

/* deadlines.c */
extern void outbox_deadlines_read(const OutboxSettings *settings, rd_kafka_conf_t *conf);
extern const OutboxDeadlines *outbox_deadlines_grown(void);
extern const OutboxDeadlines *outbox_deadlines_usual(void);
extern bool outbox_deadlines_want_limit(const OutboxSettings *settings);
extern void outbox_deadlines_set_limit(int64_t ms);
extern void outbox_deadlines_allowed(void);
extern bool outbox_deadlines_lower(void);
extern void outbox_deadlines_begun(void);
extern void outbox_deadlines_acknowledged(size_t bytes);
extern void outbox_deadlines_failed(const OutboxSettings *settings, uint64_t bytes, bool stalled,
									bool may_pass, OutboxFailure *failure);
extern void outbox_deadlines_take_progress(OutboxProgress *progress);
extern bool outbox_deadlines_committed(void);
extern void outbox_deadlines_forget(void);

/* watch.c */
extern void outbox_watch_install(rd_kafka_conf_t *conf);
extern void outbox_watch_begin(void);
extern bool outbox_watch_is_suspect(void);

/* record.c */
extern rd_kafka_error_t *outbox_record_produce(rd_kafka_t *producer, OutboxTopic *topic,
											   const OutboxWireEvent *event, uint32_t index,
											   int64_t time_ms, const OutboxSettings *settings);

/* topic_create.c */
extern bool outbox_topic_declare(rd_kafka_t *client, const OutboxTopic *declaration,
								 OutboxFailure *failure);
extern bool outbox_topics_untried(void);
extern bool outbox_topics_ensure(rd_kafka_t *client, const char *cursor_topic,
								 OutboxFailure *failure);
extern bool outbox_topic_make_for_event(rd_kafka_t *producer, OutboxTopic *topic,
										OutboxFailure *failure);

/* topics.c */
extern void outbox_exit_out_of_memory(void);
extern void outbox_pause_briefly(void);
extern OutboxTopic *outbox_topic_find(const char *name, size_t len);
extern OutboxTopic *outbox_topic_known(const char *name);
extern OutboxTopic *outbox_topics_next(size_t *at);
extern bool outbox_topic_open(rd_kafka_t *producer, OutboxTopic *topic, OutboxFailure *failure);
extern bool outbox_topic_note_offset(OutboxTopic *topic, int32_t partition, int64_t offset);
extern bool outbox_topics_find_changed(rd_kafka_t *client, const OutboxTopic **changed,
									   OutboxFailure *failure);
extern const OutboxTopic *outbox_topics_find_gone(rd_kafka_t *client, uint64_t serial);
extern void outbox_topic_unanswered(OutboxTopic *topic, uint32_t index);
extern size_t outbox_topics_list_unlimited(OutboxTopic **list, size_t most, const OutboxTopic *but);
extern int64_t outbox_topics_batch_bytes(void);
extern bool outbox_topics_leave_crowd(uint64_t serial);
extern void outbox_topics_close(void);

/* limits.c */
extern bool outbox_limits_describe(rd_kafka_t *client, rd_kafka_ConfigResource_t **resources,
								   size_t count,
								   void (*take)(const rd_kafka_ConfigResource_t *resource,
												void							*arg),
								   void *arg);
extern void outbox_limits_open(rd_kafka_t *client, OutboxTopic *topic);
extern bool outbox_limits_freshen(rd_kafka_t *client, OutboxTopic *topic, int64_t since_us);
extern bool outbox_limits_have_changed(rd_kafka_t *client, OutboxTopic *topic);
extern void outbox_limits_forget(OutboxTopic *topic);

/* halving.c */
extern uint32_t outbox_halving_per_request(void);
extern void outbox_halving_suspect(rd_kafka_t *client, const OutboxSuspects *suspects);
extern void outbox_halving_found(void);
extern bool outbox_halving_grow(void);

/* judge.c */
extern rd_kafka_resp_err_t outbox_judge_event(rd_kafka_t *client, OutboxTopic *topic,
											  const OutboxWireEvent *event,
											  const OutboxSettings *settings, int64_t since_us,
											  char *text, size_t size);
extern void outbox_judge_explain(const OutboxTopic *topic, rd_kafka_resp_err_t code, char *text,
								 size_t size);

/* refusals.c */
extern void outbox_refusals_clear(void);
extern bool outbox_refusals_any(void);
extern bool outbox_refusals_by_us(void);
extern bool outbox_refusals_by_kafka(void);
extern bool outbox_refusals_only_ours(void);
extern bool outbox_refusals_hold(const OutboxTopic *topic, const OutboxWireEvent *event);
extern void outbox_refusals_note_ours(uint32_t index, OutboxTopic *topic,
									  const OutboxWireEvent *event, rd_kafka_resp_err_t code,
									  const char *text);
extern void outbox_refusals_note_topic(uint32_t index, OutboxTopic *topic, rd_kafka_resp_err_t code,
									   const char *text);
extern void outbox_refusals_note_kafka(uint32_t index, OutboxTopic *topic, int32_t partition,
									   rd_kafka_resp_err_t code, const char *text);
extern size_t outbox_refusals_sift(bool alone, OutboxSuspects *suspects);
extern const char *outbox_refusals_first(uint32_t *index);
extern const char *outbox_refusals_any_text(void);
extern bool outbox_refusals_have_topic(void);
extern bool outbox_refusals_put(OutboxWireBuffer *frame, size_t told);

/* cursor.c */
extern bool outbox_cursor_read(const OutboxSettings *settings, bool stable, OutboxCursor *cursor,
							   OutboxFailure *failure);
extern rd_kafka_topic_partition_list_t *outbox_cursor_offsets(const OutboxSettings *settings,
															  const OutboxCursor   *cursor);
extern void outbox_cursor_store(const OutboxCursor *cursor);
extern int64_t outbox_cursor_behind_us(void);
extern bool outbox_cursor_serve(const OutboxSettings *settings);
extern int outbox_cursor_wakeup_fd(void);
extern bool outbox_cursor_drain(const OutboxSettings *settings, int timeout_ms);
extern void outbox_cursor_close(void);

/* alive.c */
extern void outbox_alive_join(const OutboxSettings *settings);
extern bool outbox_alive_look(const OutboxSettings *settings, OutboxMembers *members,
							  OutboxFailure *failure);
extern int outbox_alive_wakeup_fd(void);
extern void outbox_alive_serve(void);
extern void outbox_alive_leave(void);
extern void outbox_alive_drop(void);

/* producer.c */
extern bool outbox_producer_open(const OutboxSettings *settings, OutboxFailure *failure);
extern rd_kafka_t *outbox_producer_client(void);
extern void outbox_producer_drop(void);
extern void outbox_producer_idle(void);

/* batch.c */
extern void outbox_batch_forget(void);
extern void outbox_batch_begin(const OutboxCursor *cursor, int64_t time_ms);
extern bool outbox_batch_event(const OutboxSettings *settings, const OutboxWireEvent *event,
							   OutboxFailure *failure);
extern bool outbox_batch_end(const OutboxSettings *settings, uint32_t events,
							 OutboxBatchResult *result, OutboxFailure *failure);
extern void outbox_batch_delivered(rd_kafka_t *producer, const rd_kafka_message_t *message,
								   void *opaque);

#endif /* OUTBOX_SENDER_H */
