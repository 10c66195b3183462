/* 64 GiB of addresses of which pages everywhere are in memory: one of each 2 MiB, more of them second by second, some of them
 * written again and again by two threads. For pictures of large address spaces. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define BYTES (64ULL << 30)
#define STRIDE (2ULL << 20)
#define ROUNDS 40

static char *memory;

static void *write_again(void *of) {
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned long long at = (unsigned long long)(size_t)of * STRIDE; at < BYTES; at += 16 * STRIDE)
            memory[at]++;
        usleep(100000);
    }
    return 0;
}

int main(void) {
    memory = mmap(0, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return 1;
    madvise(memory, BYTES, MADV_NOHUGEPAGE);
    pthread_t thread;
    if (pthread_create(&thread, 0, write_again, (void *)1))
        return 1;
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned long long at = round * STRIDE; at < BYTES; at += ROUNDS * STRIDE)
            memory[at + (size_t)(random() % 512) * 4096] = 1;
        usleep(100000);
    }
    return pthread_join(thread, 0);
}
