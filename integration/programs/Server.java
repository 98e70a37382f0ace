// The workload's server on com.sun.net.httpserver, on IPv4 and IPv6. Usage: java Server PORT
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Executors;

public class Server {
    static void answer(HttpExchange exchange) throws IOException {
        Map<String, Integer> wish = new HashMap<>();
        String query = exchange.getRequestURI().getRawQuery();
        for (String pair : query == null ? new String[0] : query.split("&")) {
            String[] parts = pair.split("=", 2);
            if (parts.length == 2 && parts[1].matches("\\d{1,9}")) wish.put(parts[0], Integer.parseInt(parts[1]));
        }
        int received = exchange.getRequestBody().readAllBytes().length;
        try {
            Thread.sleep(wish.getOrDefault("delay", 0));
        } catch (InterruptedException stop) {
            throw new IOException(stop);
        }
        int status = wish.getOrDefault("status", 200);
        int size = wish.getOrDefault("size", 2);
        InetSocketAddress peer = exchange.getRemoteAddress();
        long pid = ProcessHandle.current().pid();
        String address = peer.getAddress().getHostAddress();
        exchange.getResponseHeaders().set("X-Peer", pid + " " + address + " " + peer.getPort());
        exchange.getResponseHeaders().set("X-Received", Integer.toString(received));
        if (status == 204 || status == 304) {
            exchange.sendResponseHeaders(status, -1);
        } else if (exchange.getRequestMethod().equals("HEAD")) {
            exchange.getResponseHeaders().set("Content-Length", Integer.toString(size));
            exchange.sendResponseHeaders(status, -1);
        } else {
            boolean chunked = wish.getOrDefault("chunked", 0) == 1;
            exchange.sendResponseHeaders(status, chunked ? 0 : size == 0 ? -1 : size);
            try (OutputStream body = exchange.getResponseBody()) {
                for (int begin = 0, step; begin < size; begin += step) {
                    step = Math.min(chunked ? 1000 : size, size - begin);
                    body.write("y".repeat(step).getBytes());
                    if (chunked) body.flush();
                }
            }
        }
        exchange.close();
    }

    public static void main(String[] arguments) throws IOException {
        for (String address : new String[] {"127.0.0.1", "::1"}) {
            int port = Integer.parseInt(arguments[0]);
            HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getByName(address), port), 128);
            server.createContext("/", Server::answer);
            server.setExecutor(Executors.newFixedThreadPool(8));
            server.start();
        }
    }
}
