// Is interrupted all the time by its own signals until its standard input ends, and checks what it does meanwhile: calls that the
// kernel begins anew, sleeps, waits with other signal masks, and sums that never leave registers. With "seccomp" it runs under a filter
// that kills it for userfaultfd.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int over;
static volatile long alarms, users;
static int pipes[2];

static void check(int holds, const char *what)
{
    if (!holds) {
        printf("%s: errno %d\n", what, errno);
        exit(1);
    }
}

static void on_alarm(int signal)
{
    (void)signal;
    alarms++;
}

static void on_user(int signal)
{
    (void)signal;
    users++;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

// A sum whose parts are all in registers; the compiler cannot work it out.
static void *sums(void *unused)
{
    while (!over) {
        unsigned long a = 1, b = 2, c = 3, d = 5, e = 8;
        double f = 0;
        for (long step = 0; step < 100000; step++) {
            a += b ^ step, b += c, c ^= a >> 3, d += e * 3, e ^= d >> 5;
            f += 0.5;
            __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+x"(f));
        }
        static unsigned long first;
        unsigned long sum = a ^ b ^ c ^ d ^ e;
        if (!first)
            first = sum;
        check(sum == first && f == 50000, "a sum in registers");
    }
    return unused;
}

static void *sleeps(void *unused)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (!over) {
        double begun = now();
        struct timespec time = {0, 30000000};
        check(nanosleep(&time, NULL) == 0, "a sleep that no signal interrupts");
        check(now() - begun >= 0.030, "a sleep is as long as it was to be");
        struct pollfd none = {-1, 0, 0};
        begun = now();
        check(poll(&none, 1, 20) == 0, "a poll that no signal interrupts");
        check(now() - begun >= 0.019, "a poll is as long as it was to be");
    }
    return unused;
}

static void *reads(void *unused)
{
    long expected = 0, got;
    // Its handler asks for the call to be begun anew.
    while (read(pipes[0], &got, sizeof got) == sizeof got)
        check(got == expected++, "what is read is what was written, in its order");
    check(over, "a read that is begun anew");
    return unused;
}

static void *waits_with_other_masks(void *unused)
{
    sigset_t user, with_user;
    sigemptyset(&user);
    sigaddset(&user, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &user, &with_user);
    sigdelset(&with_user, SIGUSR1);
    while (!over) {
        long before = users;
        pthread_kill(pthread_self(), SIGUSR1);
        check(users == before, "a blocked signal waits");
        check(sigsuspend(&with_user) == -1 && errno == EINTR, "sigsuspend");
        check(users == before + 1, "one signal, one handler");
        struct timespec time = {0, 5000000};
        fd_set none;
        FD_ZERO(&none);
        sigset_t all;
        sigfillset(&all);
        check(pselect(0, &none, NULL, NULL, &time, &all) == 0, "pselect with all signals blocked");
        pthread_sigmask(SIG_BLOCK, NULL, &all);
        check(sigismember(&all, SIGUSR1) == 1 && sigismember(&all, SIGUSR2) == 0, "the mask is what it was");
    }
    return unused;
}

static void filter(void)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};
    check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0, "seccomp");
}

int main(int count, char **arguments)
{
    (void)arguments;
    if (count > 1)
        filter();
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    check(sigaction(SIGALRM, &action, NULL) == 0, "sigaction");
    action.sa_handler = on_user;
    check(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
    check(pipe(pipes) == 0, "pipe");
    void *(*works[])(void *) = {sums, sleeps, reads, waits_with_other_masks};
    pthread_t threads[4];
    for (int thread = 0; thread < 4; thread++)
        check(pthread_create(&threads[thread], NULL, works[thread], NULL) == 0, "a thread");
    struct itimerval timer = {{0, 1000}, {0, 1000}};
    check(setitimer(ITIMER_REAL, &timer, NULL) == 0, "setitimer");
    long written = 0;
    struct pollfd input = {0, POLLIN, 0};
    while (poll(&input, 1, 0) <= 0) {
        check(write(pipes[1], &written, sizeof written) == sizeof written, "a write");
        written++;
        usleep(200);
    }
    over = 1;
    close(pipes[1]);
    for (int thread = 0; thread < 4; thread++)
        check(pthread_join(threads[thread], NULL) == 0, "the end of a thread");
    check(alarms > 100, "signals came");
    printf("all is well\n");
    return 0;
}
