// One way of making or ending processes and threads, named by the first argument.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static char *self;

static void say(const char *text) {
    if (write(1, text, strlen(text)) < 0) _exit(99);
}

static void nap(int milliseconds) {
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {}
}

static int status_of(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void keep(int count, size_t size) {
    for (int i = 0; i < count; i++) memset(malloc(size), 1, size);
}

static int fork_only(void) {
    keep(100, 1000);
    pid_t pid = fork();
    if (pid == 0) {
        keep(50, 3000);
        _exit(3);
    }
    int status = status_of(pid);
    keep(7, 500);
    return status;
}

static int spawn(void) {
    keep(10, 100);
    char *arguments[] = {self, "leaf", NULL};
    pid_t pid;
    if (posix_spawn(&pid, self, NULL, NULL, arguments, environ) != 0) return 98;
    return status_of(pid);
}

static int vfork_exec(void) {
    keep(10, 100);
    char *arguments[] = {self, "leaf", NULL};
    pid_t pid = vfork();
    if (pid == 0) {
        execve(self, arguments, environ);
        _exit(97);
    }
    return status_of(pid);
}

static int vfork_exit(void) {
    keep(10, 100);
    pid_t pid = vfork();
    if (pid == 0) _exit(5);
    int status = status_of(pid);
    keep(10, 100);
    return status;
}

static int daemon_outlives(void) {
    keep(20, 100);
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        pid_t second = fork();
        if (second == 0) {
            nap(300);
            keep(30, 200);
            say("daemon\n");
            _exit(0);
        }
        _exit(0);
    }
    status_of(pid);
    say("parent\n");
    return 0;
}

static void *churn(void *argument) {
    unsigned seed = (unsigned)(long)argument;
    for (int i = 0; i < 500; i++) {
        void *made = malloc(rand_r(&seed) % 500 + 1);
        made = realloc(made, rand_r(&seed) % 2000 + 1);
        free(made);
    }
    if ((long)argument % 2) pthread_exit(NULL);
    return NULL;
}

static int threads(void) {
    pthread_t started[64];
    for (long i = 0; i < 64; i++) pthread_create(&started[i], NULL, churn, (void *)i);
    for (long i = 0; i < 64; i++) {
        if (i % 3) pthread_join(started[i], NULL);
        else pthread_detach(started[i]);
    }
    nap(50);
    return 0;
}

static volatile sig_atomic_t handled;

static void handler(int signal) {
    (void)signal;
    int before = errno;
    void *made = malloc(64);
    if (made) memset(made, 1, 64);
    free(malloc(32));
    handled++;
    errno = before;
}

static int allocating_handler(void) {
    keep(3, 64);
    signal(SIGALRM, handler);
    struct itimerval every = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &every, NULL);
    while (handled < 100) {}
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, NULL);
    return 0;
}

static jmp_buf back;

static void deeper(int left) {
    char *made = malloc(left + 1);
    made[0] = 1;
    if (left == 0) longjmp(back, 1);
    deeper(left - 1);
    free(made);
}

static int jumps(void) {
    for (volatile int round = 0; round < 50; round++)
        if (setjmp(back) == 0) deeper(20);
    return 0;
}

static int forks_from_thread_result;

static void *fork_there(void *argument) {
    (void)argument;
    keep(5, 50);
    forks_from_thread_result = fork_only();
    return NULL;
}

static int fork_in_thread(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, fork_there, NULL);
    pthread_join(thread, NULL);
    return forks_from_thread_result;
}

int main(int count, char **arguments) {
    self = arguments[0];
    struct { const char *name; int (*run)(void); } ways[] = {
        {"fork", fork_only}, {"spawn", spawn}, {"vfork-exec", vfork_exec}, {"vfork-exit", vfork_exit},
        {"daemon", daemon_outlives}, {"threads", threads}, {"handler", allocating_handler}, {"longjmp", jumps},
        {"fork-in-thread", fork_in_thread},
    };
    if (count > 1 && strcmp(arguments[1], "leaf") == 0) {
        keep(11, 111);
        say("leaf\n");
        return 4;
    }
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (count > 1 && strcmp(arguments[1], ways[i].name) == 0) {
            int status = ways[i].run();
            say("done\n");
            return status;
        }
    return 96;
}
