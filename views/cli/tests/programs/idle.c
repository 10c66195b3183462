// Allocates a known number of objects before and after it is told by lines on its standard input, in several threads and in a
// child, so that a recording can begin between: "go" allocates, "end" ends it.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, BEFORE = 4000, AFTER = 250, FREED = 50, MOVED = 10, IN_CHILD = 33 };

static void *before[THREADS][BEFORE], *after[THREADS][AFTER * 64];
static int rounds, freed[THREADS], to_threads[THREADS][2], answers[2];

__attribute__((noinline)) static void *allocate_before(void)
{
    return malloc(100);
}

__attribute__((noinline)) static void *allocate_after(void)
{
    return malloc(64);
}

__attribute__((noinline)) static void *allocate_in_child(void)
{
    return malloc(48);
}

__attribute__((noinline)) static void *move_old(void *old)
{
    return realloc(old, 3000);
}

static void *work(void *argument)
{
    int thread = (int)(long)argument;
    char told;
    for (int index = 0; index < BEFORE; index++)
        before[thread][index] = allocate_before();
    if (write(answers[1], "b", 1) != 1)
        abort();
    while (read(to_threads[thread][0], &told, 1) == 1) {
        for (int index = 0; index < AFTER; index++)
            after[thread][(rounds % 64) * AFTER + index] = allocate_after();
        for (int index = 0; index < FREED; index++)
            free(before[thread][freed[thread]++]);
        for (int index = 0; index < MOVED; index++) {
            before[thread][freed[thread]] = move_old(before[thread][freed[thread]]);
            freed[thread]++;
        }
        if (write(answers[1], "a", 1) != 1)
            abort();
    }
    return NULL;
}

// Until the program ends: objects of many sizes, each with its own number written all over it.
static void *churn(void *argument)
{
    enum { KEPT = 256 };
    static __thread unsigned char *kept[KEPT];
    static __thread size_t sizes[KEPT];
    unsigned long random = (unsigned long)argument + 1;
    if (write(answers[1], "c", 1) != 1)
        abort();
    for (;;) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t place = (random >> 33) % KEPT, size = 1 + (random >> 45) % 2000;
        for (size_t at = 0; kept[place] && at < sizes[place]; at++)
            if (kept[place][at] != (unsigned char)place)
                abort();
        if (random >> 62) {
            free(kept[place]);
            kept[place] = malloc(size);
        } else {
            kept[place] = realloc(kept[place], size);
        }
        memset(kept[place], (int)place, size);
        sizes[place] = size;
        // Reports of what a recorder gets in a moment are to take no longer than a moment.
        if (place == 0)
            usleep(1000);
    }
}

static void go(void)
{
    char answered;
    // The first hook of a program that was woken joins the recording; what other threads do meanwhile is before it.
    void *volatile first = malloc(1);
    free(first);
    for (int thread = 0; thread < THREADS; thread++)
        if (write(to_threads[thread][1], "g", 1) != 1)
            abort();
    for (int thread = 0; thread < THREADS; thread++)
        if (read(answers[0], &answered, 1) != 1)
            abort();
    rounds++;
    pid_t child = fork();
    if (child == 0) {
        static void *kept[IN_CHILD];
        for (int index = 0; index < IN_CHILD; index++)
            kept[index] = allocate_in_child();
        usleep(50000);
        _exit(kept[0] ? 3 : 4);
    }
    int status;
    if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 3)
        abort();
}

int main(int argc, char **argv)
{
    (void)argv;
    char line[16];
    char answered;
    if (pipe(answers))
        abort();
    for (long count = 0; count < THREADS; count++) {
        pthread_t thread;
        if (pipe(to_threads[count]) || pthread_create(&thread, NULL, argc > 1 ? churn : work, (void *)count) || read(answers[0], &answered, 1) != 1)
            abort();
    }
    printf("ready %d\n", getpid());
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) && !strcmp(line, "go\n")) {
        go();
        printf("done\n");
        fflush(stdout);
    }
    return 7;
}
