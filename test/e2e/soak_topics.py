# SPDX-License-Identifier: PostgreSQL
"""Topics deleted under the soak's load, and a ledger of what they held."""

from collections import Counter

from checker.log_files import COMMITTED, list_directories
from checker.remains import note_batches, proven, read_commits, read_remains
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import NewTopic
from fault_rounds import Missed
from harness import wait_until

# A broker keeps the files of a deleted topic that long: until they are read.
KEEP_DELETED = {"log.segment.delete.delay.ms": "600000"}


class DeletedTopics:
    """Deletes topics of a KafkaBroker with KEEP_DELETED, and reads what they held from the broker's files.

    logs     {topic: how many of its logs are deleted}, the number of the log it has now
    remains  every record of those logs, as Buried
    """

    def __init__(self, kafka, database):
        self.kafka = kafka
        self.database = database
        self.root = kafka.data / "log"
        self.logs = Counter()
        self.ids = set()
        self.unread = []  # (topic, topic id, partitions) not yet among the remains
        self.remains = []

    def describe(self, topic):
        """(topic id, number of partitions), or None while there is no such topic."""
        try:
            found = self.kafka.admin.describe_topics(TopicCollection([topic]))[topic].result(30)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise
        # librdkafka writes ids in plain base64, Kafka in that for URLs.
        return str(found.topic_id).translate(str.maketrans("+/", "-_")), len(found.partitions)

    def delete(self, topic):
        """Delete the topic as it is now; somebody may make it anew at once. Raises Missed when there is none."""
        found = self.describe(topic)
        if found is None:
            raise Missed(f"{topic} is not there")
        topic_id, partitions = found
        try:
            self.kafka.admin.delete_topics([topic])[topic].result(30)
        except KafkaException as error:
            print(f"deleting {topic}: {error}", flush=True)
        wait_until(lambda: (self.describe(topic) or (None,))[0] != topic_id, 60, f"the end of {topic}")
        self.ids.add(topic_id)
        self.unread.append((topic, topic_id, partitions))

    def make(self, topic, partitions):
        """Make it anew, as somebody would who knows nothing of us; the broker or the relay may have been faster."""
        try:
            self.kafka.admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def read_unread(self):
        """Read what the topics deleted last held; soon, while the tables know the events. Returns how many records."""
        before = len(self.remains)
        while self.unread:
            topic, topic_id, partitions = self.unread[0]

            def closed():
                found = [d for d in list_directories(self.root, topic) if d.topic_id == topic_id]
                return len(found) == partitions and all(d.deleted for d in found) and found
            directories = wait_until(closed, 60, f"the files of {topic}")
            self.remains += note_batches(read_remains(directories, self.logs[topic]), self.database)
            self.logs[topic] += 1
            self.unread.pop(0)
        return len(self.remains) - before

    def destroyed(self):
        """The records proven to have been delivered to deleted logs."""
        offsets = list_directories(self.root, "__consumer_offsets")
        return proven(self.remains, read_commits(offsets, self.database.transactional_id()))

    def readable(self):
        """Those of them that a read_committed consumer could have read."""
        return [row.record for row in self.remains if row.fate == COMMITTED]

    def require_known(self, topics):
        """Raise AssertionError when one of the topics was deleted by somebody else."""
        for topic in topics:
            strange = {d.topic_id for d in list_directories(self.root, topic) if d.deleted} - self.ids
            assert not strange, f"somebody else has deleted {topic}, topic id {strange}"
