import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A worker that polls every two seconds. */
public class Worker {
  static final String CLAIM = "UPDATE mail SET status = 'sending', attempts = attempts + 1, locked_at = now() WHERE id = ("
      + " SELECT id FROM mail WHERE (status = 'queued' AND run_after <= now())"
      + " OR (status = 'sending' AND locked_at < now() - interval '5 minutes') ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
      + ") RETURNING id, recipient, attempts";

  public static void main(String[] arguments) throws Exception {
    Matcher url = Pattern.compile("postgresql://(.*):(.*)@(.*)").matcher(System.getenv("DATABASE_URL"));
    url.matches();
    Connection db = DriverManager.getConnection("jdbc:postgresql://" + url.group(3), url.group(1), url.group(2));
    HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    while (true) {
      int id, attempts;
      String recipient;
      try (Statement statement = db.createStatement(); ResultSet row = statement.executeQuery(CLAIM)) {
        if (!row.next()) {
          Thread.sleep(2000);
          continue;
        }
        id = row.getInt(1);
        recipient = row.getString(2);
        attempts = row.getInt(3);
      }
      HttpRequest request = HttpRequest.newBuilder(URI.create("http://mail.example.com/send"))
          .header("content-type", "application/json")
          .POST(HttpRequest.BodyPublishers.ofString("{\"to\": \"" + recipient + "\"}")).build();
      boolean sent;
      try {
        HttpResponse<String> reply = client.send(request, HttpResponse.BodyHandlers.ofString());
        sent = reply.statusCode() == 200 && reply.body().startsWith("{");
      } catch (IOException error) {
        sent = false;
      }
      String status = sent ? "sent" : attempts < 3 ? "queued" : "failed";
      try (Statement statement = db.createStatement()) {
        statement.executeUpdate("UPDATE mail SET status = '" + status + "', run_after = now() + interval '30 seconds',"
            + " error = '', done_at = CASE WHEN '" + status + "' <> 'queued' THEN now() END WHERE id = " + id);
      }
    }
  }
}
