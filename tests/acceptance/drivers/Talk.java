// A JDBC driver, plain, compressed, by TLS and both. Arguments: the beginning of its URL, options, more options, ...
import java.sql.*;
import java.util.*;

public class Talk {
    public static void main(String[] arguments) throws Exception {
        for (String options : Arrays.copyOfRange(arguments, 1, arguments.length)) {
            try (Connection connection = DriverManager.getConnection(arguments[0] + options, "driver", "driver")) {
                System.out.println(options + talk(connection));
            }
        }
        System.exit(0);
    }

    static String talk(Connection connection) throws SQLException {
        Statement statement = connection.createStatement();
        statement.execute("CREATE TEMPORARY TABLE lob (id INT AUTO_INCREMENT PRIMARY KEY, b LONGBLOB) ENGINE = InnoDB");
        connection.setAutoCommit(false);
        byte[] blob = new byte[1 << 20];
        new Random(1).nextBytes(blob);
        PreparedStatement insert =
            connection.prepareStatement("INSERT INTO lob (b) VALUES (?)", Statement.RETURN_GENERATED_KEYS);
        insert.setBytes(1, blob);
        insert.executeUpdate();
        ResultSet key = insert.getGeneratedKeys();
        key.next();
        PreparedStatement select = connection.prepareStatement("SELECT b FROM lob WHERE id = ?");
        select.setInt(1, key.getInt(1));
        ResultSet row = select.executeQuery();
        row.next();
        boolean same = Arrays.equals(blob, row.getBytes(1));
        connection.rollback();
        connection.setAutoCommit(true);
        ResultSet count = statement.executeQuery("SELECT COUNT(*) FROM lob");
        count.next();
        return " " + same + " " + count.getInt(1) + " " + error(statement) + " " + many(statement) + " " + late(statement);
    }

    static int error(Statement statement) {
        try {
            statement.execute("SELEC 1");
            return 0;
        } catch (SQLException refused) {
            return refused.getErrorCode();
        }
    }

    static int many(Statement statement) throws SQLException {
        statement.setFetchSize(100);
        String digits = "(SELECT 0 AS n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6"
            + " UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
        ResultSet rows = statement.executeQuery("SELECT a.n + 10 * b.n + 100 * c.n, REPEAT('x', 1000) FROM "
            + digits + " AS a, " + digits + " AS b, " + digits + " AS c");
        int many = 0;
        while (rows.next()) {
            many++;
        }
        return many;
    }

    /** A statement that is stopped after a second, by a KILL QUERY of the driver's or by the server. */
    static String late(Statement statement) throws SQLException {
        statement.setQueryTimeout(1);
        long begun = System.currentTimeMillis();
        try {
            statement.executeQuery("SELECT SLEEP(6)").next();
            return "not stopped";
        } catch (SQLException stopped) {
            return (System.currentTimeMillis() - begun < 4000) ? "stopped" : "stopped late";
        }
    }
}
