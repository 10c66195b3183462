/* Fills and half empties the heaps of three threads, prints what the allocator says of itself, and ends.
 * glibc: uordblks + hblkhd, fordblks. jemalloc: stats.active, stats.resident - stats.active. */
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>

// So many that what jemalloc takes for resident of its structures, in steps of 2 MiB whether touched or not, is little.
#ifndef OBJECTS
#define OBJECTS 120000
#endif

static pthread_barrier_t filled, read_out;

static void *fill(void *seed) {
    uint64_t random = (uint64_t)(uintptr_t)seed;
    char **objects = malloc(OBJECTS * sizeof *objects);
    for (int i = 0; i < OBJECTS; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t size = 16 + (random >> 33) % 1000;
        if (i % 4000 == 0) size += 300000;
        objects[i] = memset(malloc(size), 1, size);
    }
    for (int i = OBJECTS / 2; i < OBJECTS; i++) free(objects[i]);
    for (int i = 0; i < OBJECTS / 8; i++) free(objects[i]);
    int (*control)(const char *, void *, size_t *, void *, size_t) = dlsym(RTLD_DEFAULT, "mallctl");
    if (control) control("thread.tcache.flush", NULL, NULL, NULL, 0);
    pthread_barrier_wait(&filled);
    pthread_barrier_wait(&read_out);
    return NULL;
}

int main(void) {
    pthread_t threads[2];
    pthread_barrier_init(&filled, NULL, 3);
    pthread_barrier_init(&read_out, NULL, 3);
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, fill, (void *)(uintptr_t)(i + 1));
    char text[128];
    uint64_t random = 3;
    char **objects = malloc(OBJECTS * sizeof *objects);
    for (int i = 0; i < OBJECTS; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t size = 16 + (random >> 33) % 1000;
        objects[i] = memset(malloc(size), 1, size);
    }
    for (int i = 0; i < OBJECTS; i += 2) free(objects[i]);
    int (*control)(const char *, void *, size_t *, void *, size_t) = dlsym(RTLD_DEFAULT, "mallctl");
    if (control) control("thread.tcache.flush", NULL, NULL, NULL, 0);
    pthread_barrier_wait(&filled);
    size_t first, second;
    if (control) {
        uint64_t epoch = 1;
        size_t length = sizeof epoch, active = 0, resident = 0;
        control("epoch", &epoch, &length, &epoch, length);
        length = sizeof active;
        control("stats.active", &active, &length, NULL, 0);
        control("stats.resident", &resident, &length, NULL, 0);
        first = active, second = resident - active;
    } else {
        struct mallinfo2 info = mallinfo2();
        first = info.uordblks + info.hblkhd, second = info.fordblks;
    }
    int length = snprintf(text, sizeof text, "%zu %zu\n", first, second);
    if (write(1, text, length) != length) return 1;
    _exit(0);
}
