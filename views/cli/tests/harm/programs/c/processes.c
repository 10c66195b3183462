// Ways in which one process becomes two, or another one.
#include <pthread.h>
#include <spawn.h>
#include "hazard.h"

extern char **environ;

static char self[] = "/proc/self/exe";
static char *leaf_arguments[] = {"leaf", "leaf", NULL};

static int leaf(void) {
    keep(11, 111);
    say("leaf\n");
    return 4;
}

static int child_allocates(void) {
    keep(100, 1000);
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        keep(50, 3000);
        make_and_drop(5000, 64);
        pid = fork();
        if (pid == 0) {
            begin_counting();
            keep(10, 10);
            exit(5);
        }
        EXPECT(status_of(pid) == 5);
        _exit(3);
    }
    make_and_drop(5000, 64);
    keep(7, 500);
    say("child %d\n", status_of(pid));
    return 0;
}

static volatile int stop;

static void *churn(void *unused) {
    (void)unused;
    while (!stop) {
        make_and_drop(100, 40);
        usleep(200);
    }
    return NULL;
}

static int in_threads(void) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) EXPECT(pthread_create(&threads[i], NULL, churn, NULL) == 0);
    for (int round = 0; round < 20; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            begin_counting();
            keep(20, 200);
            make_and_drop(200, 64);
            _exit(round);
        }
        EXPECT(status_of(pid) == round);
    }
    stop = 1;
    for (int i = 0; i < 4; i++) EXPECT(pthread_join(threads[i], NULL) == 0);
    say("20 children\n");
    return 0;
}

static int vfork_exec(void) {
    keep(10, 100);
    for (int round = 0; round < 5; round++) {
        pid_t pid = vfork();
        if (pid == 0) {
            execve(self, leaf_arguments, environ);
            _exit(97);
        }
        EXPECT(status_of(pid) == 4);
    }
    keep(10, 100);
    pid_t pid = vfork();
    if (pid == 0) _exit(6);
    EXPECT(status_of(pid) == 6);
    keep(10, 100);
    return 0;
}

static int spawn(void) {
    keep(10, 100);
    for (int round = 0; round < 5; round++) {
        pid_t pid;
        EXPECT(posix_spawn(&pid, self, NULL, NULL, leaf_arguments, environ) == 0);
        EXPECT(status_of(pid) == 4);
    }
    keep(10, 100);
    return 0;
}

static int exec_static(void) {
    keep(10, 100);
    char *program = getenv("HARM_STATIC");
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        keep(1, 10);
        execl(program, program, (char *)NULL);
        _exit(97);
    }
    say("static %d\n", status_of(pid));
    execl(program, program, (char *)NULL);
    return 97;
}

static int daemonizes(void) {
    keep(20, 100);
    // The last descriptor of a pipe closes when the daemon ends.
    int ends[2];
    EXPECT(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        EXPECT(setsid() > 0);
        if (fork() != 0) _exit(0);
        begin_counting();
        EXPECT(chdir("/") == 0);
        int word = dup2(ends[1], 1000);
        for (int fd = 0; fd < 1000; fd++) close(fd);
        EXPECT(open("/dev/null", O_RDWR) == 0 && dup(0) == 1 && dup(0) == 2);
        make_and_drop(20000, 100);
        keep(30, 200);
        nap(200);
        EXPECT(write(word, "daemon", 6) == 6);
        make_and_drop(20000, 100);
        _exit(0);
    }
    EXPECT(status_of(pid) == 0);
    close(ends[1]);
    char word[7] = "";
    EXPECT(read(ends[0], word, 6) == 6);
    say("%s\n", word);
    return 0;
}

MAIN({"leaf", leaf}, {"fork_without_exec", child_allocates}, {"fork_in_threads", in_threads}, {"vfork_exec", vfork_exec},
     {"posix_spawn", spawn}, {"exec_static", exec_static}, {"daemon", daemonizes})
