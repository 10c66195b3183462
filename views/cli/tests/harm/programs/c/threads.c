// Threads: many at once, one after the other, and those that nobody waits for.
#include <pthread.h>
#include "hazard.h"

static void *churn(void *argument) {
    unsigned seed = (unsigned)(long)argument;
    void *held[16] = {0};
    for (int i = 0; i < 400; i++) {
        void **place = &held[rand_r(&seed) % 16];
        if (rand_r(&seed) % 2) {
            *place = remake(*place, rand_r(&seed) % 2000 + 1);
        } else {
            drop(*place);
            *place = make(rand_r(&seed) % 500 + 1);
        }
    }
    for (int i = 0; i < 16; i++) drop(held[i]);
    if ((long)argument % 3 == 0) pthread_exit(NULL);
    return NULL;
}

static int sixty_four(void) {
    for (long round = 0; round < 8; round++) {
        pthread_t threads[64];
        for (long i = 0; i < 64; i++) EXPECT(pthread_create(&threads[i], NULL, churn, (void *)(round * 64 + i)) == 0);
        for (long i = 0; i < 64; i++) EXPECT(pthread_join(threads[i], NULL) == 0);
    }
    say("512 threads\n");
    return 0;
}

static int running;

static void *never_ends(void *unused) {
    (void)unused;
    __atomic_add_fetch(&running, 1, __ATOMIC_RELAXED);
    while (running) {
        make_and_drop(10, 300);
        usleep(50);
    }
    return NULL;
}

static int detached_at_exit(void) {
    for (int i = 0; i < 8; i++) {
        pthread_t thread;
        EXPECT(pthread_create(&thread, NULL, never_ends, NULL) == 0);
        EXPECT(pthread_detach(thread) == 0);
    }
    while (__atomic_load_n(&running, __ATOMIC_RELAXED) < 8) nap(1);
    nap(20);
    return 0;
}

static void *until_cancelled(void *unused) {
    (void)unused;
    for (int round = 0; round < 1000000; round++) {
        make_and_drop(10, 300);
        pthread_testcancel();
    }
    return NULL;
}

static int cancelled(void) {
    for (int round = 0; round < 50; round++) {
        pthread_t thread;
        void *result;
        EXPECT(pthread_create(&thread, NULL, until_cancelled, NULL) == 0);
        nap(1);
        EXPECT(pthread_cancel(thread) == 0);
        EXPECT(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
    }
    return 0;
}

MAIN({"threads_churn", sixty_four}, {"detached_at_exit", detached_at_exit}, {"cancelled_threads", cancelled})
