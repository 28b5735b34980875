/* SPDX-License-Identifier: PostgreSQL */
import static java.nio.charset.StandardCharsets.UTF_8;

import java.sql.*;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.serialization.StringDeserializer;

public class Consume
{
	public static void main(String[] args) throws Exception
	{
		Map<String, Object> settings = Map.of(
			"bootstrap.servers", args[0],
			"group.id", args[1],
			"group.instance.id", args[1] + "-1",	/* each process its own: back after a crash it reads on at once */
			"isolation.level", "read_committed",	/* Java's default is read_uncommitted */
			"auto.offset.reset", "earliest",
			"enable.auto.commit", "false");

		try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
			 var database = DriverManager.getConnection(args[3]))
		{
			database.setAutoCommit(false);
			var claim = database.prepareStatement("SELECT outbox.claim(?, ?::uuid)");
			var insert = database.prepareStatement("INSERT INTO sale (order_id, document) VALUES (?, ?::jsonb)");

			consumer.subscribe(List.of(args[2]));
			while (true)
			{
				for (var record : consumer.poll(Duration.ofSeconds(1)))
				{
					claim.setString(1, args[1]);
					claim.setString(2, new String(record.headers().lastHeader("ce_id").value(), UTF_8));
					ResultSet claimed = claim.executeQuery();
					if (claimed.next() && claimed.getBoolean(1))
					{
						insert.setString(1, record.key());
						insert.setString(2, record.value());	/* null: a tombstone */
						insert.executeUpdate();
					}
					database.commit();
				}
				consumer.commitSync();
			}
		}
	}
}
