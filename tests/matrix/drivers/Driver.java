import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Properties;

/** pgjdbc. */
class Driver {
    static final String QUESTION =
        "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()";

    public static void main(String[] arguments) throws Exception {
        System.out.println(org.postgresql.util.DriverInfo.DRIVER_VERSION);
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = input.readLine()) != null; ) {
            System.out.println(ask(line.split("\t", -1)));
        }
    }

    static String ask(String[] given) {
        Properties settings = new Properties();
        settings.setProperty("user", "app");
        settings.setProperty("sslmode", given[2]);
        if (!given[3].isEmpty()) settings.setProperty("sslrootcert", given[3]);
        String url = "jdbc:postgresql://" + given[0] + ":" + given[1] + "/postgres";
        try (Connection db = DriverManager.getConnection(url, settings);
                ResultSet rows = db.createStatement().executeQuery(QUESTION)) {
            rows.next();
            return rows.getString(1);
        } catch (SQLException error) {
            StringBuilder said = new StringBuilder("-");
            for (Throwable each = error; each != null; each = each.getCause()) {
                said.append(each).append('\n');
            }
            return said.toString().replace('\n', '\u001f');
        }
    }
}
