/* SPDX-License-Identifier: PostgreSQL
 *
 * JdbcEmit.java
 *	  Emits JSON documents through the PostgreSQL JDBC driver, in every way an
 *	  application would.
 *
 * Run by test/e2e/test_envelope.py: java JdbcEmit.java URL TOPIC.  Reads one
 * document a line, base64 of UTF-8.  Document n is emitted with the keys WAY-n.
 */
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.Base64;

import org.postgresql.util.PGobject;

public class JdbcEmit
{
	private static final String INSERT =
		"INSERT INTO outbox.outgoing (topic, key, type, payload) VALUES (?, ?, 'Tested', ";

	public static void main(String[] args) throws Exception
	{
		BufferedReader in = new BufferedReader(
			new InputStreamReader(System.in, StandardCharsets.US_ASCII));

		try (Connection typed = DriverManager.getConnection(args[0]);
			 Connection untyped = DriverManager.getConnection(args[0] + "&stringtype=unspecified"))
		{
			String line;

			for (int n = 0; (line = in.readLine()) != null; n++)
			{
				String document = new String(Base64.getDecoder().decode(line), StandardCharsets.UTF_8);

				run(typed, INSERT + "?::jsonb)", args[1], "text-" + n, document);
				run(untyped, INSERT + "?)", args[1], "untyped-" + n, document);
				run(typed, INSERT + "?)", args[1], "jsonb-" + n, object("jsonb", document));
				run(typed, "SELECT outbox.emit(?, ?, 'Tested', ?)", args[1], "emit-" + n,
					object("jsonb", document));
				run(typed, "SELECT outbox.emit_json(?, ?, 'Tested', ?)", args[1], "verbatim-" + n,
					object("json", document));
			}
		}
	}

	private static PGobject object(String type, String value) throws SQLException
	{
		PGobject object = new PGobject();

		object.setType(type);
		object.setValue(value);
		return object;
	}

	private static void run(Connection connection, String sql, String topic, String key,
							Object document) throws SQLException
	{
		try (PreparedStatement statement = connection.prepareStatement(sql))
		{
			statement.setString(1, topic);
			statement.setString(2, "jdbc-" + key);
			statement.setObject(3, document);
			statement.execute();
		}
	}
}
