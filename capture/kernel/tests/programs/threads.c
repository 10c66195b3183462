/* Eight threads that never rest, and one that only sleeps. Prints "ready" and goes on for ever. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *work(void *unused) {
    for (;;) {
        char *object = malloc(4000);
        object[0] = 1;
        free(object);
        usleep(50);
    }
    return unused;
}

int main(void) {
    for (int i = 0; i < 8; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, NULL)) return 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}
