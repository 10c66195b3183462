// An allocator in the executable itself: it stands in front of every other one. It is that of `bump.c`.
#include <pthread.h>
#include "hazard.h"

extern long bump_calls;

static void *churn(void *unused) {
    (void)unused;
    for (int i = 0; i < 5000; i++) {
        char *made = malloc(100);
        memset(made, i, 100);
        made = realloc(made, 150);
        EXPECT(made[99] == (char)i);
        free(made);
    }
    return NULL;
}

static int in_executable(void) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) EXPECT(pthread_create(&threads[i], NULL, churn, NULL) == 0);
    for (int i = 0; i < 4; i++) EXPECT(pthread_join(threads[i], NULL) == 0);
    EXPECT(bump_calls >= 40000);
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        churn(NULL);
        _exit(3);
    }
    say("child %d\n", status_of(pid));
    return 0;
}

MAIN({"own_malloc", in_executable})
