// Two threads allocate and free as fast as they can for as many milliseconds as the second argument says, in this program
// and in a child that it forks and one that it starts; prints what it did, and writes for how many microseconds a single
// call stood still at most to the file that the first argument names, one line a process.
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000L + time.tv_nsec / 1000;
}

static long until, faults;
static _Atomic long longest;

static void *work(void *unused) {
    (void)unused;
    unsigned char *ring[256] = {0};
    for (unsigned long i = 0;; i++) {
        unsigned char **slot = &ring[i * 7 % 256];
        long before = now_us();
        if (*slot && **slot != (unsigned char)(i * 7 % 256)) faults++;
        free(*slot);
        *slot = malloc(i % 900 + 1);
        long after = now_us();
        **slot = i * 7 % 256;
        if (after - before > longest) longest = after - before;
        if (after > until) return NULL;
    }
}

static void both(const char *file) {
    pthread_t thread;
    pthread_create(&thread, NULL, work, NULL);
    work(NULL);
    pthread_join(thread, NULL);
    char line[64];
    int length = snprintf(line, sizeof line, "%d %ld\n", getpid(), longest);
    int out = open(file, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (write(out, line, length) != length) _exit(90);
    close(out);
}

int main(int count, char **arguments) {
    if (count < 3) return 91;
    until = now_us() + atol(arguments[2]) * 1000;
    if (count > 3) {
        both(arguments[1]);
        return faults != 0;
    }
    char *started[] = {arguments[0], arguments[1], arguments[2], "started", NULL};
    pid_t fork_child = fork();
    if (fork_child == 0) {
        both(arguments[1]);
        _exit(faults != 0);
    }
    pid_t exec_child = fork();
    if (exec_child == 0) {
        execv("/proc/self/exe", started);
        _exit(92);
    }
    both(arguments[1]);
    int ends = 0, status;
    while (waitpid(-1, &status, 0) > 0) ends += WIFEXITED(status) && WEXITSTATUS(status) == 0;
    printf("%d children ended well\n", ends);
    return faults != 0;
}
