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
			/* Each process its own: back after a crash it reads on at once. */
			"group.instance.id", args[1] + "-1",
			"isolation.level", "read_committed",	/* Java's default is read_uncommitted */
			"auto.offset.reset", "earliest",
			"enable.auto.commit", "false");

		var text = new StringDeserializer();

		try (var consumer = new KafkaConsumer<>(settings, text, text);
			 var database = DriverManager.getConnection(args[3]))
		{
			database.setAutoCommit(false);
			var claim = database.prepareStatement("SELECT outbox.claim(?, ?::uuid)");
			var insert = database.prepareStatement(
				"INSERT INTO sale (order_id, document) VALUES (?, ?::jsonb)");

			consumer.subscribe(List.of(args[2]));
			while (true)
			{
				for (var record : consumer.poll(Duration.ofSeconds(1)))
				{
					claim.setString(1, args[1]);
					byte[] id = record.headers().lastHeader("ce_id").value();
					claim.setString(2, new String(id, UTF_8));
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
