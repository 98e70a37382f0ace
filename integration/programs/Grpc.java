// The workload's gRPC programs in Java, as integration/programs/grpc_workload.py describes them. Usage:
// java Grpc server PORT | java Grpc client PLAN LOG N TARGET

import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.HandlerRegistry;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerMethodDefinition;
import io.grpc.Status;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.NettyServerBuilder;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

final class Grpc {
  private static final Metadata.Key<String> ASK = Metadata.Key.of("x-ask", Metadata.ASCII_STRING_MARSHALLER);
  private static final ScheduledExecutorService LATER = Executors.newScheduledThreadPool(8);
  private static final int MANY = 1_000_000;

  /** Passes messages on as the bytes they are. */
  private static final class Raw implements MethodDescriptor.Marshaller<byte[]> {
    @Override public InputStream stream(byte[] value) {
      return new ByteArrayInputStream(value);
    }

    @Override public byte[] parse(InputStream stream) {
      try {
        return stream.readAllBytes();
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }
  }

  private static String kindOf(String method) {
    return method.substring(method.lastIndexOf('/') + 1);
  }

  /** The method of that name, or null where its kind is none. */
  private static MethodDescriptor<byte[], byte[]> describe(String method) {
    MethodDescriptor.MethodType type;
    switch (kindOf(method)) {
      case "Unary": type = MethodDescriptor.MethodType.UNARY; break;
      case "ClientStream": type = MethodDescriptor.MethodType.CLIENT_STREAMING; break;
      case "ServerStream": type = MethodDescriptor.MethodType.SERVER_STREAMING; break;
      case "Bidi": type = MethodDescriptor.MethodType.BIDI_STREAMING; break;
      default: return null;
    }
    return MethodDescriptor.<byte[], byte[]>newBuilder(new Raw(), new Raw())
        .setType(type).setFullMethodName(method).build();
  }

  private static byte[] bytes(char letter, int size) {
    byte[] made = new byte[size];
    Arrays.fill(made, (byte) letter);
    return made;
  }

  // -- the server

  private static Map<String, Integer> wishes(Metadata headers) {
    Map<String, Integer> found = new HashMap<>(Map.of("responses", 1, "size", 2, "status", 0, "delay", 0));
    String asked = headers.get(ASK);
    if (asked != null && !asked.isEmpty()) {
      for (String pair : asked.split("&")) {
        found.put(pair.substring(0, pair.indexOf('=')), Integer.valueOf(pair.substring(pair.indexOf('=') + 1)));
      }
    }
    return found;
  }

  /** One call: requests are counted, and echoed where both sides stream; the answer comes when they are all there. */
  private static final class Serving extends ServerCall.Listener<byte[]> {
    private final ServerCall<byte[], byte[]> call;
    private final Map<String, Integer> wish;
    private final String kind;
    private boolean begun;

    Serving(ServerCall<byte[], byte[]> call, Metadata headers) {
      this.call = call;
      this.wish = wishes(headers);
      this.kind = kindOf(call.getMethodDescriptor().getFullMethodName());
      call.request(MANY);
    }

    private synchronized void send(byte[] message) {
      if (!begun) {
        begun = true;
        call.sendHeaders(new Metadata());
      }
      call.sendMessage(message);
    }

    @Override public void onMessage(byte[] message) {
      if (kind.equals("Bidi")) {
        send(message);
      }
    }

    @Override public void onHalfClose() {
      LATER.schedule(this::answer, wish.get("delay"), TimeUnit.MILLISECONDS);
    }

    private synchronized void answer() {
      if (call.isCancelled()) {
        return;
      }
      boolean one = kind.equals("Unary") || kind.equals("ClientStream");
      int status = wish.get("status");
      for (int number = 0; number < wish.get("responses") && !(one && status != 0); number++) {
        send(bytes('y', wish.get("size")));
      }
      call.close(Status.fromCodeValue(status), new Metadata());
    }
  }

  private static void serve(int port) throws Exception {
    NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", port))
        .addListenAddress(new InetSocketAddress("::1", port))
        .fallbackHandlerRegistry(
            new HandlerRegistry() {
              @Override public ServerMethodDefinition<?, ?> lookupMethod(String name, String authority) {
                MethodDescriptor<byte[], byte[]> method = describe(name);
                ServerCallHandler<byte[], byte[]> handler = Serving::new;
                return method == null ? null : ServerMethodDefinition.create(method, handler);
              }
            })
        .build().start().awaitTermination();
  }

  // -- the client

  private static String text(String line, String name) {
    Matcher found = Pattern.compile("\"" + name + "\": ?\"([^\"]*)\"").matcher(line);
    return found.find() ? found.group(1) : "";
  }

  private static int number(String line, String name) {
    Matcher found = Pattern.compile("\"" + name + "\": ?([0-9]+)").matcher(line);
    return found.find() ? Integer.parseInt(found.group(1)) : 0;
  }

  private static long now() {
    Instant now = Instant.now();
    return now.getEpochSecond() * 1_000_000_000L + now.getNano();
  }

  private static final class Asking extends ClientCall.Listener<byte[]> {
    final CountDownLatch over = new CountDownLatch(1);
    volatile int messages;
    volatile Status status;

    @Override public void onMessage(byte[] message) {
      messages++;
    }

    @Override public void onClose(Status status, Metadata trailers) {
      this.status = status;
      over.countDown();
    }
  }

  private static String call(ManagedChannel channel, String line) throws InterruptedException {
    String method = text(line, "method").substring(1);
    MethodDescriptor<byte[], byte[]> described = describe(method);
    if (described == null) {
      described = describe(method.substring(0, method.lastIndexOf('/')) + "/Unary").toBuilder()
          .setFullMethodName(method).build();
    }
    long start = now();
    int timeout = number(line, "timeout_ms");
    CallOptions options = CallOptions.DEFAULT;
    if (timeout != 0) {
      options = options.withDeadlineAfter(timeout, TimeUnit.MILLISECONDS);
    }
    ClientCall<byte[], byte[]> call = channel.newCall(described, options);
    Metadata headers = new Metadata();
    headers.put(ASK, text(line, "ask"));
    Asking asking = new Asking();
    call.start(asking, headers);
    call.request(MANY);
    for (int count = number(line, "requests"); count > 0; count--) {
      call.sendMessage(bytes('x', number(line, "size")));
    }
    call.halfClose();
    if (number(line, "cancel_ms") != 0) {
      LATER.schedule(() -> call.cancel("as asked", null), number(line, "cancel_ms"), TimeUnit.MILLISECONDS);
    }
    asking.over.await();
    return String.format(
        "{\"id\": \"%s\", \"status\": \"%s\", \"messages\": %d, \"start_ns\": %d, \"end_ns\": %d}%n",
        text(line, "id"), asking.status.getCode().name(), asking.messages, start, now());
  }

  private static void ask(Path plan, Path log, int atOnce, String target) throws Exception {
    ManagedChannel channel = NettyChannelBuilder.forTarget(target).usePlaintext().build();
    ExecutorService threads = Executors.newFixedThreadPool(atOnce);
    List<Callable<String>> calls = new ArrayList<>();
    for (String line : Files.readAllLines(plan)) {
      calls.add(() -> call(channel, line));
    }
    StringBuilder lines = new StringBuilder();
    for (Future<String> line : threads.invokeAll(calls)) {
      lines.append(line.get());
    }
    Path part = Path.of(log + ".part");
    Files.writeString(part, lines);
    Files.move(part, log, StandardCopyOption.ATOMIC_MOVE);
    new BufferedReader(new InputStreamReader(System.in)).readLine();
    System.exit(0);
  }

  public static void main(String[] words) throws Exception {
    if (words[0].equals("server")) {
      serve(Integer.parseInt(words[1]));
    } else {
      ask(Path.of(words[1]), Path.of(words[2]), Integer.parseInt(words[3]), words[4]);
    }
  }
}
