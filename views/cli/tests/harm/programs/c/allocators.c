// Every function of the family, from several threads: for allocators that are linked or preloaded.
#include <malloc.h>
#include <pthread.h>
#include "hazard.h"

static void *counted(void *made) {
    EXPECT(made);
    count_made();
    return made;
}

static void *uses_all(void *unused) {
    (void)unused;
    for (int i = 1; i < 300; i++) {
        void *aligned = NULL;
        EXPECT(posix_memalign(&aligned, 64, (size_t)i * 10) == 0);
        EXPECT((size_t)counted(aligned) % 64 == 0);
        drop(aligned);
        drop(counted(aligned_alloc(128, (size_t)i * 128)));
        drop(counted(memalign(256, (size_t)i)));
        drop(counted(valloc((size_t)i)));
        char *zeroed = counted(calloc((size_t)i, 7));
        for (int at = 0; at < i * 7; at++) EXPECT(zeroed[at] == 0);
        void *grown = remake(zeroed, (size_t)i * 100);
        grown = remake(grown, 5);
        EXPECT(malloc_usable_size(grown) >= 5);
        drop(grown);
        drop(counted(reallocarray(NULL, (size_t)i, 30)));
        drop(counted(malloc((size_t)i << 12)));
    }
    errno = 0;
    volatile size_t too_much = (size_t)-1 >> 1;
    EXPECT(malloc(too_much) == NULL && errno == ENOMEM);
    EXPECT(reallocarray(NULL, too_much, 8) == NULL);
    return NULL;
}

static int whole_family(void) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) EXPECT(pthread_create(&threads[i], NULL, uses_all, NULL) == 0);
    for (int i = 0; i < 4; i++) EXPECT(pthread_join(threads[i], NULL) == 0);
    keep(20, 200);
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        uses_all(NULL);
        _exit(3);
    }
    say("child %d\n", status_of(pid));
    return 0;
}

MAIN({"whole_family", whole_family})
