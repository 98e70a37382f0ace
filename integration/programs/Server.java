// The workload's server on com.sun.net.httpserver, on IPv4 and IPv6. Usage: java Server PORT [KEYSTORE]
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.File;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Executors;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;

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

    // The keystore's password is empty.
    static HttpServer secured(InetSocketAddress address, File keystore) throws IOException, GeneralSecurityException {
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(KeyStore.getInstance(keystore, new char[0]), new char[0]);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), null, null);
        HttpsServer server = HttpsServer.create(address, 128);
        server.setHttpsConfigurator(new HttpsConfigurator(context));
        return server;
    }

    public static void main(String[] arguments) throws IOException, GeneralSecurityException {
        for (String address : new String[] {"127.0.0.1", "::1"}) {
            int port = Integer.parseInt(arguments[0]);
            InetSocketAddress place = new InetSocketAddress(InetAddress.getByName(address), port);
            HttpServer server =
                    arguments.length > 1 ? secured(place, new File(arguments[1])) : HttpServer.create(place, 128);
            server.createContext("/", Server::answer);
            server.setExecutor(Executors.newFixedThreadPool(8));
            server.start();
        }
    }
}
