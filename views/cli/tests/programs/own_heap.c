// A heap of its own, as language runtimes have one: 32 MiB from the kernel, all touched, 8 MiB of them given back, 4 MiB of
// another mapping filled by read(2). It lives for a while and says that it did.
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20, PAGE = 4096 };

static char *mapped(long bytes) {
    char *memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        _exit(3);
    return memory;
}

__attribute__((noinline)) static void touch(char *memory, long bytes) {
    for (long at = 0; at < bytes; at += PAGE)
        ((volatile char *)memory)[at] = 1;
}

int main(void) {
    char *heap = mapped(32 * MIB);
    touch(heap, 32 * MIB);
    if (madvise(heap + 24 * MIB, 8 * MIB, MADV_DONTNEED))
        return 4;
    int file = open("/dev/zero", O_RDONLY);
    char *filled = mapped(4 * MIB);
    for (long done = 0; done < 4 * MIB;) {
        long got = read(file, filled + done, 4 * MIB - done);
        if (got <= 0)
            return 5;
        done += got;
    }
    struct timespec nap = {1, 500 * 1000000L};
    nanosleep(&nap, 0);
    return write(1, "lived\n", 6) != 6;
}
