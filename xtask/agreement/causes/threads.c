/* Threads: stacks that come, are kept for the next thread and go, and memory of eight at once. */
#include "phase.h"
#include <pthread.h>

static void *work(void *argument) {
    long number = (long)argument;
    volatile char frame[512 * 1024];
    for (size_t at = 0; at < sizeof frame; at += PAGE) {
        frame[at] = 1;
    }
    char *memory = fresh(4 * MIB), *blocks[400];
    write_pages(memory, 4 * MIB, 1 + (size_t)number % 3);
    for (int at = 0; at < 400; at++) {
        blocks[at] = malloc(5000);
        CHECK(blocks[at]);
        memset(blocks[at], 1, 5000);
    }
    phase();
    for (int at = 0; at < 400; at++) {
        free(blocks[at]);
    }
    CHECK(munmap(memory, 4 * MIB) == 0);
    phase();
    return NULL;
}

int main(void) {
    for (int round = 0; round < 6; round++) {
        pthread_t threads[8];
        for (long number = 0; number < 8; number++) {
            CHECK(pthread_create(&threads[number], NULL, work, (void *)number) == 0);
        }
        for (int number = 0; number < 8; number++) {
            CHECK(pthread_join(threads[number], NULL) == 0);
        }
        phase();
    }
    return 0;
}
