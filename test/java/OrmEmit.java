/* SPDX-License-Identifier: PostgreSQL
 *
 * OrmEmit.java
 *	  Emits through outbox.outgoing with Hibernate and with JDBC's generated keys.
 *
 * Run by test/e2e/test_orms.py: java OrmEmit.java URL TOPIC.  Keys begin with "j-"; prints a
 * JSON object of the rest of the key and the id that the entity or the driver has.
 */
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.UUID;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.NullNode;
import jakarta.persistence.Column;
import jakarta.persistence.Entity;
import jakarta.persistence.GeneratedValue;
import jakarta.persistence.GenerationType;
import jakarta.persistence.Id;
import jakarta.persistence.MappedSuperclass;
import jakarta.persistence.Table;
import org.hibernate.Session;
import org.hibernate.SessionFactory;
import org.hibernate.annotations.Generated;
import org.hibernate.annotations.JdbcTypeCode;
import org.hibernate.boot.registry.BootstrapServiceRegistryBuilder;
import org.hibernate.cfg.Configuration;
import org.hibernate.type.SqlTypes;

public class OrmEmit
{
	@MappedSuperclass
	public static class Event
	{
		public String topic;
		@Column(name = "key")
		public String key;
		public String type = "T";
		@JdbcTypeCode(SqlTypes.JSON)
		public JsonNode payload;
		@JdbcTypeCode(SqlTypes.JSON)
		public Map<String, String> headers;
	}

	/* The id is the database's. */
	@Entity(name = "GeneratedEvent")
	@Table(schema = "outbox", name = "outgoing")
	public static class GeneratedEvent extends Event
	{
		@Id
		@Generated
		public UUID id;
	}

	/* The id is Hibernate's. */
	@Entity(name = "OwnEvent")
	@Table(schema = "outbox", name = "outgoing")
	public static class OwnEvent extends Event
	{
		@Id
		@GeneratedValue(strategy = GenerationType.UUID)
		public UUID id;
	}

	/* The id is the application's. */
	@Entity(name = "AssignedEvent")
	@Table(schema = "outbox", name = "outgoing")
	public static class AssignedEvent extends Event
	{
		@Id
		public UUID id;
	}

	@Entity(name = "Orders")
	@Table(name = "orders")
	public static class Order
	{
		@Id
		@GeneratedValue(strategy = GenerationType.IDENTITY)
		public Long id;
		public String note;
	}

	private static final ObjectMapper json = new ObjectMapper();
	private static final Map<String, String> returned = new TreeMap<>();
	private static String topic;

	public static void main(String[] args) throws Exception
	{
		/* Java runs this file from memory, where no other class loader finds it. */
		Configuration configuration = new Configuration(new BootstrapServiceRegistryBuilder()
				.applyClassLoader(OrmEmit.class.getClassLoader()).build())
			.addAnnotatedClass(GeneratedEvent.class).addAnnotatedClass(OwnEvent.class)
			.addAnnotatedClass(AssignedEvent.class).addAnnotatedClass(Order.class)
			.setProperty("hibernate.connection.url", args[0])
			.setProperty("hibernate.jdbc.batch_size", "20")
			.setProperty("hibernate.hbm2ddl.auto", "validate")
			.setProperty("hibernate.hbm2ddl.extra_physical_table_types", "FOREIGN TABLE");

		topic = args[1];
		try (SessionFactory factory = configuration.buildSessionFactory())
		{
			factory.inTransaction(OrmEmit::emitEntities);
			try (Session session = factory.openSession())
			{
				session.beginTransaction();
				session.persist(fill(new GeneratedEvent(), "undone"));
				session.flush();
				session.getTransaction().rollback();
			}
			factory.inTransaction(session -> session.doWork(OrmEmit::emitStatements));
		}
		System.out.println(json.writeValueAsString(returned));
	}

	private static <T extends Event> T fill(T event, String key)
	{
		event.topic = topic;
		event.key = "j-" + key;
		event.payload = json.createObjectNode().put("n", 1);
		return event;
	}

	private static void note(Event event, UUID id)
	{
		returned.put(event.key.substring(2), id.toString());
	}

	private static void emitEntities(Session session)
	{
		Order order = new Order();
		GeneratedEvent generated = fill(new GeneratedEvent(), "generated");
		AssignedEvent assigned = fill(new AssignedEvent(), "assigned");
		AssignedEvent merged = fill(new AssignedEvent(), "merged");
		GeneratedEvent tombstone = fill(new GeneratedEvent(), "tombstone");
		GeneratedEvent none = fill(new GeneratedEvent(), "null");
		List<OwnEvent> batch = new ArrayList<>();

		order.note = "first";
		session.persist(order);
		generated.headers = Map.of("a", "b");
		session.persist(generated);
		assigned.id = UUID.randomUUID();
		session.persist(assigned);
		merged.id = UUID.randomUUID();
		session.merge(merged);
		tombstone.payload = null;
		session.persist(tombstone);
		none.payload = NullNode.instance;
		session.persist(none);
		batch.add(fill(new OwnEvent(), "own"));
		for (int n = 0; n < 50; n++)
			batch.add(fill(new OwnEvent(), "batch-" + n));
		batch.forEach(session::persist);
		session.flush();
		note(generated, generated.id);
		note(assigned, assigned.id);
		note(merged, merged.id);
		note(tombstone, tombstone.id);
		note(none, none.id);
		batch.forEach(event -> note(event, event.id));
	}

	private static final String INSERT =
		"INSERT INTO outbox.outgoing (topic, key, type, payload) VALUES (?, ?, 'T', '{}')";

	private static void emitStatements(Connection connection) throws SQLException
	{
		emitRows(connection.prepareStatement(INSERT, Statement.RETURN_GENERATED_KEYS), "all");
		emitRows(connection.prepareStatement(INSERT, new String[] {"id"}), "named");
		emitRows(connection.prepareStatement(INSERT, new String[] {"key", "id"}), "keys");
		try (PreparedStatement statement = connection.prepareStatement(INSERT + " RETURNING id"))
		{
			statement.setString(1, topic);
			statement.setString(2, "j-direct");
			try (ResultSet row = statement.executeQuery())
			{
				row.next();
				returned.put("direct", row.getObject(1, UUID.class).toString());
			}
		}
		emitGiven(connection, "?", UUID.randomUUID());
		emitGiven(connection, "?::uuid", UUID.randomUUID().toString());
		try (Statement statement = connection.createStatement())
		{
			statement.executeUpdate("INSERT INTO outbox.outgoing (topic, key, type) VALUES ('" + topic +
									"', 'j-several-1', 'T'), ('" + topic + "', 'j-several-2', 'T')", Statement.RETURN_GENERATED_KEYS);
			noteKeys(statement, List.of("several-1", "several-2"));
		}
	}

	/* An id of the application's: a UUID as it is, a String with a cast. */
	private static void emitGiven(Connection connection, String place, Object id) throws SQLException
	{
		String key = "given-" + id.getClass().getSimpleName();

		try (PreparedStatement statement = connection.prepareStatement(
				"INSERT INTO outbox.outgoing (topic, key, type, id) VALUES (?, ?, 'T', " + place + ")"))
		{
			statement.setString(1, topic);
			statement.setString(2, "j-" + key);
			statement.setObject(3, id);
			statement.executeUpdate();
		}
		returned.put(key, id.toString());
	}

	/* A batch of three rows, and their keys. */
	private static void emitRows(PreparedStatement statement, String way) throws SQLException
	{
		List<String> keys = List.of(way + "-1", way + "-2", way + "-3");

		try (statement)
		{
			for (String key : keys)
			{
				statement.setString(1, topic);
				statement.setString(2, "j-" + key);
				statement.addBatch();
			}
			statement.executeBatch();
			noteKeys(statement, keys);
		}
	}

	private static void noteKeys(Statement statement, List<String> keys) throws SQLException
	{
		try (ResultSet rows = statement.getGeneratedKeys())
		{
			for (String key : keys)
			{
				rows.next();
				returned.put(key, rows.getObject("id", UUID.class).toString());
			}
		}
	}
}
