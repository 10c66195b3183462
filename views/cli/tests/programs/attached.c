// Does what it is told by lines on its standard input, so that a recording can begin between: "go" touches memory in each of
// its threads and processes, "end" ends it.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, EARLY = 256, LATE = 512, GIVEN_BACK = 100, OF_THREAD = 64, OF_NEW_THREAD = 32, OF_CHILD = 128, OF_NEW_CHILD = 48 };

static int to_threads[2], to_child[2], answers[2];
static char *early;

static char *fresh(size_t pages)
{
    char *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    madvise(memory, pages * PAGE, MADV_NOHUGEPAGE);
    return memory;
}

__attribute__((noinline)) static void touch_early(char *memory, size_t pages)
{
    for (size_t page = 0; page < pages; page++)
        ((volatile char *)memory)[page * PAGE] = 1;
}

__attribute__((noinline)) static void touch_late(size_t pages)
{
    volatile char *memory = fresh(pages);
    for (size_t page = 0; page < pages; page++)
        memory[page * PAGE] = 1;
}

__attribute__((noinline)) static void touch_in_thread(size_t pages)
{
    volatile char *memory = fresh(pages);
    for (size_t page = 0; page < pages; page++)
        memory[page * PAGE] = 1;
}

static void say(char what)
{
    if (write(answers[1], &what, 1) != 1)
        abort();
}

static void wait_for(size_t count)
{
    char told;
    while (count--)
        if (read(answers[0], &told, 1) != 1)
            abort();
}

static void *waiting_thread(void *unused)
{
    char told;
    say('T');
    while (read(to_threads[0], &told, 1) == 1) {
        touch_in_thread(OF_THREAD);
        say('t');
    }
    return unused;
}

static void *new_thread(void *unused)
{
    touch_in_thread(OF_NEW_THREAD);
    return unused;
}

static void child(void)
{
    char told;
    close(to_child[1]);
    say('C');
    while (read(to_child[0], &told, 1) == 1) {
        touch_late(OF_CHILD);
        say('c');
    }
    _exit(0);
}

static void go(void)
{
    touch_late(LATE);
    munmap(early, GIVEN_BACK * PAGE);
    early = fresh(GIVEN_BACK);
    if (write(to_threads[1], "gg", 2) != 2 || write(to_child[1], "g", 1) != 1)
        abort();
    wait_for(3);
    pthread_t thread;
    if (pthread_create(&thread, NULL, new_thread, NULL) || pthread_join(thread, NULL))
        abort();
    pid_t forked = fork();
    if (forked == 0) {
        touch_late(OF_NEW_CHILD);
        usleep(150000);
        _exit(3);
    }
    int status;
    if (waitpid(forked, &status, 0) != forked || WEXITSTATUS(status) != 3)
        abort();
}

int main(void)
{
    char line[16];
    pthread_t thread;
    if (pipe(to_threads) || pipe(to_child) || pipe(answers))
        abort();
    early = fresh(EARLY);
    touch_early(early, EARLY);
    pid_t forked = fork();
    if (forked == 0)
        child();
    close(to_child[0]);
    for (int count = 0; count < 2; count++)
        pthread_create(&thread, NULL, waiting_thread, NULL);
    wait_for(3);
    printf("ready %d\n", forked);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) && !strcmp(line, "go\n")) {
        go();
        printf("done\n");
        fflush(stdout);
    }
    close(to_child[1]);
    waitpid(forked, NULL, 0);
    return 7;
}
