// Allocates in two threads in a fixed order, counts what it does, and ends without freeing what is left. It prints
// live objects, requested bytes, usable bytes, uordblks + hblkhd, without the help of stdio, which allocates.
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOTS = 2000, STEPS = 40000 };
struct worker {
    void *slots[SLOTS];
    size_t asked[SLOTS];
    uint64_t random;
};
static struct worker workers[2];
static size_t live, live_bytes, usable_bytes;

static uint64_t next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void *work(void *argument) {
    struct worker *self = argument;
    for (int step = 0; step < STEPS; step++) {
        size_t at = next(&self->random) % SLOTS;
        size_t size = next(&self->random) % 900 + 1;
        if (next(&self->random) % 1000 == 0) size += 200000;
        void **slot = &self->slots[at];
        switch (next(&self->random) % 8) {
        case 0: case 1:
            free(*slot);
            *slot = NULL;
            size = 0;
            break;
        case 2: case 3:
            *slot = realloc(*slot, size);
            break;
        case 4:
            free(*slot);
            *slot = calloc(3, size);
            size *= 3;
            break;
        case 5:
            free(*slot);
            *slot = memalign(64 << (step % 4), size);
            break;
        case 6:
            *slot = reallocarray(*slot, 2, size);
            size *= 2;
            break;
        default:
            free(*slot);
            *slot = malloc(size);
        }
        self->asked[at] = size;
        if (*slot) memset(*slot, 1, size);
    }
    return NULL;
}

int main(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        workers[i].random = 88172645463325252u + i;
        pthread_create(&threads[i], NULL, work, &workers[i]);
    }
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++)
        for (int at = 0; at < SLOTS; at++)
            if (workers[i].slots[at]) {
                live++;
                live_bytes += workers[i].asked[at];
                usable_bytes += malloc_usable_size(workers[i].slots[at]);
            }
    struct mallinfo2 info = mallinfo2();
    char line[200];
    int length = snprintf(line, sizeof line, "%zu %zu %zu %zu\n", live, live_bytes, usable_bytes,
                          info.uordblks + info.hblkhd);
    return write(1, line, length) != length;
}
