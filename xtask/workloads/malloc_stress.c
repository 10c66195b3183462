/* malloc_stress: threads that replace blocks of random sizes, through deep and varied calls.
 *
 * usage: malloc_stress [PAIRS] [THREADS] [SLOTS] [DEPTH]
 *
 * Each thread owns SLOTS / THREADS pointers. In each round it frees a random one of them and allocates 16 to 4096
 * bytes in its place, DEPTH calls deep, on one of 256 paths through eight functions. At the end all is freed.
 * Prints the allocations and frees that it has made.
 *
 * gcc -O2 -g -fno-omit-frame-pointer -fno-optimize-sibling-calls -fno-inline -pthread: each step keeps its frame.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define THREADS_MAX 64
#define NOT_INLINED __attribute__((noinline, noclone))
#define INLINED static inline __attribute__((always_inline))

static long pairs = 5000000, threads = 2, slots = 100000, depth = 16;

typedef void *step(long levels, unsigned path, size_t bytes);
static step *const steps[8];

/* The barrier keeps each call from becoming a jump, which would leave no frame. */
#define STEP(name)                                                                              \
    NOT_INLINED static void *name(long levels, unsigned path, size_t bytes) {                   \
        void *block = levels == 0 ? malloc(bytes) : steps[path >> (levels % 6) & 7](levels - 1, path, bytes); \
        __asm__ volatile("" : "+r"(block));                                                     \
        return block;                                                                           \
    }
STEP(north) STEP(north_east) STEP(east) STEP(south_east) STEP(south) STEP(south_west) STEP(west) STEP(north_west)
static step *const steps[8] = {north, north_east, east, south_east, south, south_west, west, north_west};

struct work {
    uint64_t random;
    uint64_t allocated, freed;
};

/* A linear congruential generator (Knuth's MMIX constants); its high bits are the good ones. */
INLINED uint64_t next_random(struct work *work) {
    work->random = work->random * 6364136223846793005u + 1442695040888963407u;
    return work->random >> 16;
}

INLINED void release(struct work *work, void *block) {
    if (block) {
        free(block);
        work->freed++;
    }
}

static void *run(void *argument) {
    struct work *work = argument;
    long count = slots / threads;
    void **blocks = calloc(count, sizeof *blocks);
    work->allocated++;
    for (long round = 0; round < pairs / threads; round++) {
        uint64_t random = next_random(work);
        void **slot = &blocks[(random >> 24) % count];
        release(work, *slot);
        unsigned path = random & 255;
        uint64_t *block = steps[path & 7](depth - 1, path, 16 + (random >> 8 & 65535) % 4081);
        work->allocated++;
        *(volatile uint64_t *)block = random;
        *slot = block;
    }
    for (long i = 0; i < count; i++)
        release(work, blocks[i]);
    release(work, blocks);
    return NULL;
}

int main(int count, char **arguments) {
    long *const settings[] = {&pairs, &threads, &slots, &depth};
    for (int i = 1; i < count && i <= 4; i++)
        *settings[i - 1] = strtol(arguments[i], NULL, 10);
    if (pairs < 1 || threads < 1 || threads > THREADS_MAX || slots < threads || depth < 1) {
        fprintf(stderr, "malloc_stress: expected PAIRS >= 1, THREADS 1 to %d, SLOTS >= THREADS, DEPTH >= 1\n", THREADS_MAX);
        return 2;
    }
    static struct work work[THREADS_MAX];
    pthread_t ids[THREADS_MAX];
    for (long i = 0; i < threads; i++) {
        work[i].random = i + 1;
        if (pthread_create(&ids[i], NULL, run, &work[i])) {
            perror("malloc_stress: pthread_create");
            return 1;
        }
    }
    uint64_t allocated = 0, freed = 0;
    for (long i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        allocated += work[i].allocated;
        freed += work[i].freed;
    }
    printf("%llu allocations, %llu frees\n", (unsigned long long)allocated, (unsigned long long)freed);
    return 0;
}
