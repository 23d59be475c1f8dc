// Every clock, sleep, timer and source of chance of Java, once, or in four threads with the argument "threads".
import java.io.FileInputStream;
import java.lang.management.ManagementFactory;
import java.net.ServerSocket;
import java.net.SocketTimeoutException;
import java.nio.channels.Selector;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.time.Clock;
import java.time.Instant;
import java.time.ZonedDateTime;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;

public class Everything {
    interface Way { void go() throws Exception; }

    static synchronized void say(int number, Object... what) {
        StringBuilder line = new StringBuilder().append(number);
        for (Object each : what) line.append(' ').append(each);
        System.out.println(line);
    }

    static void timed(int number, String name, double asked, Way way) throws Exception {
        long begun = System.nanoTime();
        way.go();
        say(number, String.format(Locale.ROOT, "%s asked %.3f passed %.3f", name, asked, (System.nanoTime() - begun) / 1e9));
    }

    static void clocks(int number) {
        say(number, "dates", new Date(), Instant.now(), Clock.systemUTC().millis(), ZonedDateTime.now().toEpochSecond());
        say(number, "ns", System.currentTimeMillis(), System.nanoTime());
        say(number, "uptime", ManagementFactory.getRuntimeMXBean().getStartTime());
    }

    static void sleeps(int number) throws Exception {
        timed(number, "sleep", 3600, () -> Thread.sleep(3_600_000));
        timed(number, "TimeUnit.sleep", 1.5, () -> TimeUnit.MILLISECONDS.sleep(1500));
        timed(number, "parkNanos", 7, () -> {
            for (long end = System.nanoTime() + 7_000_000_000L; System.nanoTime() < end;) LockSupport.parkNanos(end - System.nanoTime());
        });
        timed(number, "wait", 90, () -> { Object o = new Object(); synchronized (o) { o.wait(90_000); } });
        timed(number, "join", 4, () -> { Thread t = new Thread(() -> pause(60_000)); t.setDaemon(true); t.start(); t.join(4000); t.interrupt(); });
        timed(number, "poll", 11, () -> new LinkedBlockingQueue<Integer>().poll(11, TimeUnit.SECONDS));
        timed(number, "latch", 8, () -> new CountDownLatch(1).await(8, TimeUnit.SECONDS));
        timed(number, "condition", 6, () -> { ReentrantLock l = new ReentrantLock(); l.lock(); try { l.newCondition().await(6, TimeUnit.SECONDS); } finally { l.unlock(); } });
        timed(number, "semaphore", 5, () -> new Semaphore(0).tryAcquire(5, TimeUnit.SECONDS));
        timed(number, "future", 13, () -> { try { new CompletableFuture<Integer>().get(13, TimeUnit.SECONDS); } catch (TimeoutException e) { } });
        timed(number, "selector", 3, () -> { try (Selector s = Selector.open()) { s.select(3000); } });
        timed(number, "accept", 9, () -> { try (ServerSocket s = new ServerSocket(0)) { s.setSoTimeout(9000); s.accept(); } catch (SocketTimeoutException e) { } });
        timed(number, "a child", 2, () -> new ProcessBuilder("sleep", "2").start().waitFor());
    }

    static void pause(long millis) {
        try { Thread.sleep(millis); } catch (InterruptedException e) { Thread.currentThread().interrupt(); }
    }

    static void timers(int number) throws Exception {
        ScheduledExecutorService executor = Executors.newScheduledThreadPool(2);
        timed(number, "schedule", 12, () -> executor.schedule(() -> 1, 12, TimeUnit.SECONDS).get());
        CountDownLatch latch = new CountDownLatch(5);
        timed(number, "scheduleAtFixedRate", 50, () -> { executor.scheduleAtFixedRate(latch::countDown, 10, 10, TimeUnit.SECONDS); latch.await(); });
        executor.shutdownNow();
        CountDownLatch rung = new CountDownLatch(1);
        Timer timer = new Timer(true);
        timed(number, "Timer", 20, () -> { timer.schedule(new TimerTask() { public void run() { rung.countDown(); } }, 20_000); rung.await(); });
        timer.cancel();
        timed(number, "delayedExecutor", 15, () -> CompletableFuture.supplyAsync(() -> 1, CompletableFuture.delayedExecutor(15, TimeUnit.SECONDS)).get());
    }

    static void chance(int number) throws Exception {
        byte[] bytes = new byte[8], drawn = new byte[8];
        new SecureRandom().nextBytes(bytes);
        try (FileInputStream device = new FileInputStream("/dev/urandom")) { device.read(drawn); }
        say(number, "random", Math.random(), new Random().nextInt(), ThreadLocalRandom.current().nextInt(), new SplittableRandom().nextInt());
        say(number, "secure", UUID.randomUUID(), HexFormat.of().formatHex(bytes), HexFormat.of().formatHex(drawn));
        List<Integer> cards = new ArrayList<>(List.of(1, 2, 3, 4, 5, 6));
        Collections.shuffle(cards);
        Path folder = Files.createTempDirectory("every-");
        say(number, "ids", cards, folder.getFileName(), ProcessHandle.current().pid(), "text".hashCode(), Set.of("a", "b", "c", "d"));
        if (number == 0) say(number, "hash", new Object().hashCode());
        Files.delete(folder);
    }

    static void everything(int number) {
        try {
            clocks(number);
            chance(number);
            sleeps(number);
            timers(number);
            chance(number);
            clocks(number);
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    public static void main(String[] args) throws Exception {
        if (args.length == 0) {
            everything(0);
            return;
        }
        List<Thread> threads = new ArrayList<>();
        for (int n = 0; n < 4; n++) {
            int number = n;
            threads.add(new Thread(() -> everything(number), "everything-" + n));
        }
        for (Thread thread : threads) thread.start();
        for (Thread thread : threads) thread.join();
        System.exit(0);
    }
}
