// Objects for recordings that sample them, chosen by the first argument.
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t random_of(uint64_t *state) {
    uint64_t mixed = *state += 0x9e3779b97f4a7c15;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return mixed ^ mixed >> 31;
}

// Many small sizes and a few large ones.
static size_t size_of(uint64_t *state) {
    uint64_t number = random_of(state);
    return number % 16 == 0 ? 4096 + number / 16 % 30000 : 1 + number / 16 % 500;
}

enum { KEPT = 1500 };

// So many children that each hold the same objects when they exit. Says how many and how many bytes.
static int children(int number) {
    uint64_t bytes = 0, state = 7;
    for (int i = 0; i < KEPT; i++) bytes += size_of(&state);
    char text[64];
    int length = snprintf(text, sizeof text, "%d %llu\n", KEPT, (unsigned long long)bytes);
    if (write(1, text, length) != length) return 1;
    for (int child = 0; child < number; child++) {
        pid_t pid = fork();
        if (pid == 0) {
            state = 7;
            for (int i = 0; i < KEPT; i++) {
                size_t size = size_of(&state);
                char *volatile kept = malloc(size);
                // What is freed meanwhile takes part in the sampling all the same.
                free(malloc(64));
                if (kept == NULL) _exit(2);
                memset(kept, 1, size);
            }
            _exit(0);
        }
        int status;
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) return 3;
    }
    return 0;
}

enum { THREADS = 4, ROUNDS = 60000, SHARED = 512 };
static _Atomic(void *) shared[SHARED];

// Takes an object in one of the ways there are.
static void *take(uint64_t *state) {
    size_t size = size_of(state);
    void *object = NULL;
    switch (random_of(state) % 8) {
        case 0: return calloc(1, size);
        case 1: return memalign(64, size);
        case 2: return posix_memalign(&object, 256, size) == 0 ? object : NULL;
        case 3: return aligned_alloc(32, (size + 31) & ~31UL);
        case 4: return realloc(NULL, size);
        default: return malloc(size);
    }
}

// Each thread frees and moves what any of them has made.
static void *storm(void *argument) {
    uint64_t state = (uintptr_t)argument;
    for (int round = 0; round < ROUNDS; round++) {
        _Atomic(void *) *place = &shared[random_of(&state) % SHARED];
        void *object = atomic_exchange(place, NULL);
        switch (random_of(&state) % 4) {
            case 0:
                free(object);
                object = take(&state);
                break;
            case 1:
                object = realloc(object, size_of(&state));
                break;
            case 2: {
                // One that cannot be: the object lives on.
                volatile size_t too_large = SIZE_MAX / 2;
                void *moved = realloc(object, too_large);
                if (moved != NULL) abort();
                break;
            }
            default: {
                void *fresh = take(&state);
                if (object != NULL) *(char *)object = 1;
                free(object);
                object = fresh;
            }
        }
        free(atomic_exchange(place, object));
    }
    return NULL;
}

static void free_all(void) {
    for (int i = 0; i < SHARED; i++) free(atomic_exchange(&shared[i], NULL));
}

// Threads that free each other's objects, and a child in the middle that frees its copies. Nothing of it is left.
static int storms(void) {
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, storm, (void *)(i + 1)) != 0) return 1;
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    pid_t pid = fork();
    if (pid == 0) {
        storm((void *)77);
        free_all();
        _exit(0);
    }
    int status;
    if (waitpid(pid, &status, 0) != pid || status != 0) return 3;
    storm((void *)99);
    free_all();
    _exit(0);
}

int main(int count, char **arguments) {
    const char *what = count > 1 ? arguments[1] : "";
    if (strcmp(what, "children") == 0 && count > 2) return children(atoi(arguments[2]));
    if (strcmp(what, "storms") == 0) return storms();
    return 9;
}
