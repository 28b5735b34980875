/* SPDX-License-Identifier: PostgreSQL
 *
 * ReadCloudEvents.java
 *	  Reads records with the CloudEvents SDK's deserializer, and asks Kafka's own
 *	  hash function for their partitions.
 *
 * Run by test/e2e/test_own_client.py: java ReadCloudEvents.java BOOTSTRAP TOPIC COUNT.
 * Prints one line a record, its fields separated by tabs: partition, the one that
 * Kafka's clients choose for the key ("-" without a key), id, type, source, time,
 * datacontenttype, data in base64 ("-" where there is none).  A consumer asks no
 * deserializer about a record without value, so that one is read from its headers.
 */
import java.time.Duration;
import java.util.Base64;
import java.util.List;
import java.util.Map;

import io.cloudevents.CloudEvent;
import io.cloudevents.kafka.CloudEventDeserializer;
import io.cloudevents.kafka.KafkaMessageFactory;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.utils.Utils;

public class ReadCloudEvents
{
	public static void main(String[] args) throws Exception
	{
		Map<String, Object> settings = Map.of("bootstrap.servers", args[0], "group.id", args[1] + "-sdk",
			"isolation.level", "read_committed", "auto.offset.reset", "earliest", "enable.auto.commit", "false");
		int wanted = Integer.parseInt(args[2]);

		try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new CloudEventDeserializer()))
		{
			int partitions = consumer.partitionsFor(args[1]).size();

			consumer.subscribe(List.of(args[1]));
			while (wanted > 0)
			{
				for (var record : consumer.poll(Duration.ofSeconds(1)))
				{
					print(record.partition(), record.key() == null ? "-"
						: Utils.toPositive(Utils.murmur2(record.key())) % partitions,
						record.value() != null ? record.value()
						: KafkaMessageFactory.createReader(record.headers(), null).toEvent());
					wanted--;
				}
			}
		}
	}

	private static void print(int partition, Object chosen, CloudEvent event)
	{
		String data = event.getData() == null ? "-"
			: Base64.getEncoder().encodeToString(event.getData().toBytes());

		System.out.println(String.join("\t", String.valueOf(partition), chosen.toString(), event.getId(),
			event.getType(), event.getSource().toString(), event.getTime().toString(),
			String.valueOf(event.getDataContentType()), data));
	}
}
