/* Threads that keep lists of strings, and memory outside the heap; prints sums and ends by a status of its own. */

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.CRC32;
import java.util.zip.Deflater;

public final class Kept {
    private static final int THREADS = 4;

    private static Map<Integer, String> fill(int thread) {
        Map<Integer, String> kept = new HashMap<>();
        for (int number = 0; number < 100_000; number++) {
            kept.put(number, "thread " + thread + " keeps " + number);
            if (number % 3 == 0) {
                kept.remove(number / 2);
            }
        }
        return kept;
    }

    public static void main(String[] arguments) throws InterruptedException {
        List<Map<Integer, String>> all = new ArrayList<>();
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < THREADS; i++) {
            all.add(null);
            int number = i;
            threads.add(new Thread(() -> all.set(number, fill(number))));
        }
        for (Thread thread : threads) {
            thread.start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        long sum = 0;
        for (Map<Integer, String> map : all) {
            for (String text : map.values()) {
                sum += text.hashCode();
            }
        }
        ByteBuffer outside = ByteBuffer.allocateDirect(24 << 20);
        for (int i = 0; i < outside.capacity(); i++) {
            outside.put(i, (byte) (i * 31));
        }
        CRC32 check = new CRC32();
        check.update(outside.duplicate());
        Deflater deflater = new Deflater();
        deflater.setInput(outside.duplicate());
        deflater.finish();
        byte[] deflated = new byte[1 << 20];
        int length = deflater.deflate(deflated);
        System.out.println(sum + " " + check.getValue() + " " + length);
        System.exit(6);
    }
}
