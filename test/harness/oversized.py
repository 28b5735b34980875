# SPDX-License-Identifier: PostgreSQL
"""Events too large for a topic, and topics that take records up to a size."""

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

# SQL of a payload of 7,200 bytes, too large for a topic that takes 2,000, however it is compressed.
OVERSIZED = "to_jsonb((select string_agg(gen_random_uuid()::text, '') from generate_series(1, 200)))"


def limit_records(kafka, topic, size):
    """Have the topic take records up to size (bytes) from now on."""
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    kafka.admin.incremental_alter_configs([resource])[resource].result(30)
