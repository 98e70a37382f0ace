// Runs a plan with java.net.http.HttpClient, N at a time. Usage: java Client PLAN LOG N [2: offer HTTP/2 by upgrade]
import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class Client {
    // The plan's lines are flat JSON without escapes, so a pattern reads them; the JDK has no JSON parser.
    static final Pattern MEMBER = Pattern.compile("\"([^\"]+)\":\\s*(?:\"([^\"]*)\"|(\\d+|true|false))");

    static long now() {
        Instant instant = Instant.now();
        return instant.getEpochSecond() * 1_000_000_000L + instant.getNano();
    }

    static String run(HttpClient client, String line) {
        String id = "", method = "", url = "";
        int size = 0;
        boolean chunked = false;
        List<String> headers = new ArrayList<>();
        for (Matcher member = MEMBER.matcher(line); member.find(); ) {
            String value = member.group(2) != null ? member.group(2) : member.group(3);
            switch (member.group(1)) {
                case "id" -> id = value;
                case "method" -> method = value;
                case "url" -> url = value;
                case "body" -> size = Integer.parseInt(value);
                case "chunked" -> chunked = value.equals("true");
                default -> headers.addAll(List.of(member.group(1), value));
            }
        }
        byte[] content = "x".repeat(size).getBytes();
        HttpRequest.BodyPublisher body =
                chunked ? HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(content))
                : size > 0 ? HttpRequest.BodyPublishers.ofByteArray(content)
                : HttpRequest.BodyPublishers.noBody();
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url)).method(method, body);
        if (!headers.isEmpty()) request.headers(headers.toArray(new String[0]));
        int status = 0, received = 0;
        String peer = "", error = "";
        long start = now();
        try {
            HttpResponse<byte[]> response = client.send(request.build(), HttpResponse.BodyHandlers.ofByteArray());
            status = response.statusCode();
            received = response.body().length;
            peer = response.headers().firstValue("X-Peer").orElse("");
        } catch (Exception failure) {
            error = failure.toString().replaceAll("[\"\\\\\\p{Cntrl}]", " ");
        }
        return String.format(
                "{\"id\":\"%s\",\"status\":%d,\"body\":%d,\"start_ns\":%d,\"end_ns\":%d,\"peer\":\"%s\",\"error\":\"%s\"}%n",
                id, status, received, start, now(), peer, error);
    }

    public static void main(String[] arguments) throws Exception {
        boolean upgrade = arguments.length > 3 && arguments[3].equals("2");
        HttpClient client = HttpClient.newBuilder()
                .version(upgrade ? HttpClient.Version.HTTP_2 : HttpClient.Version.HTTP_1_1).build();
        ExecutorService pool = Executors.newFixedThreadPool(Integer.parseInt(arguments[2]));
        List<Callable<String>> tasks = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of(arguments[0]))) tasks.add(() -> run(client, line));
        StringBuilder log = new StringBuilder();
        for (Future<String> line : pool.invokeAll(tasks)) log.append(line.get());
        Path part = Path.of(arguments[1] + ".part");
        Files.writeString(part, log);
        Files.move(part, Path.of(arguments[1]));
        System.in.readAllBytes(); // stays until its input ends
        pool.shutdown();
    }
}
