/* SPDX-License-Identifier: PostgreSQL */
/* ------------------------------------------------- configuration tables
 *
 * What pg_dump takes along.  One statement each: two in one SELECT fail with
 * "tuple already updated by self".
 */
SELECT pg_catalog.pg_extension_config_dump('outbox.event', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_0', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_1', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_2', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_3', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_4', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_5', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_6', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_7', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_seq', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.batch', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.batch_0', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.batch_1', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.topic', '');
/* Rows that count: what dropped roles have left would be somebody else's elsewhere. */
SELECT pg_catalog.pg_extension_config_dump('outbox.topic_grant', 'WHERE EXISTS (SELECT FROM pg_catalog.pg_namespace n
	CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
	WHERE n.nspname = ''outbox'' AND r.oid = topic_grant.grantee)');
SELECT pg_catalog.pg_extension_config_dump('outbox.dead_letter', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.dead_letter_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.audit', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.audit_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.replay_job', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_0', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_1', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_2', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_3', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_4', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_5', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_6', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_7', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_8', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_9', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_10', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_11', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_12', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_13', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_14', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_15', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_16', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_17', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_18', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_19', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_20', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_21', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_22', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_23', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_24', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_25', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_26', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_27', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_28', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_29', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_30', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_31', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.idempotency_timeless', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.consumer_offset', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.consumer_attempt', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.consumer_trouble', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.consumer_anchor', '');
