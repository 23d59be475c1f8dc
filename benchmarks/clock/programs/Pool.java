import java.util.*;
import java.util.concurrent.*;

public class Pool {
    public static void main(String[] args) throws Exception {
        long begun = System.nanoTime();
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<?>> futures = new ArrayList<>();
        Random random = new Random();
        for (int i = 0; i < 16; i++) {
            int job = i, takes = random.nextInt(1000);
            futures.add(pool.submit(() -> {
                try {
                    Thread.sleep(takes);
                } catch (InterruptedException e) {
                    return;
                }
                System.out.printf("%.3f job %d on %s%n", (System.nanoTime() - begun) / 1e9, job, Thread.currentThread().getName());
            }));
        }
        for (Future<?> f : futures) f.get();
        pool.shutdown();
        ScheduledExecutorService timer = Executors.newScheduledThreadPool(2);
        CountDownLatch latch = new CountDownLatch(6);
        timer.scheduleAtFixedRate(latch::countDown, 10, 10, TimeUnit.MINUTES);
        latch.await();
        timer.shutdownNow();
        System.out.printf("%.2f %s %d %s%n", (System.nanoTime() - begun) / 1e9, UUID.randomUUID(), new Object().hashCode(), new Date());
        synchronized (pool) {
            long t = System.currentTimeMillis();
            pool.wait(90_000);
            System.out.println(System.currentTimeMillis() - t);
            t = System.currentTimeMillis();
            Thread.sleep(3_600_000);
            System.out.printf("java asked 3600.000 passed %.3f%n", (System.currentTimeMillis() - t) / 1e3);
        }
    }
}
