// Programs that give rights away: filters of system calls, another root, all descriptors closed, nobody's rights.
#include <grp.h>
#include <linux/audit.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include "hazard.h"

// Memory that malloc will not need the kernel for.
static void prepare_heap(void) {
    void *held[64];
    for (int i = 0; i < 64; i++) EXPECT(held[i] = make(100 << 10));
    void *end = make(16);
    for (int i = 0; i < 64; i++) drop(held[i]);
    drop(end);
}

// More than a block of the tracer's holds, and from many places.
static void work(int count) {
    for (int i = 0; i < count; i++) {
        void *one = make(40), *two = make(90);
        drop(one);
        two = remake(two, 200);
        drop(two);
    }
}

static int strict(void) {
    prepare_heap();
    say("strict\n");
    EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    work(50000);
    // exit_group is not among the four calls that are left.
    syscall(SYS_exit, 5);
    return 1;
}

enum { ALLOWED_MAX = 16 };

// Whatever is not in the list kills the process.
static void allow_only(const int *calls, int count, int through_syscall) {
    struct sock_filter filter[2 * ALLOWED_MAX + 3];
    int length = 0;
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < count; i++) {
        filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
        filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog program = {(unsigned short)length, filter};
    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (through_syscall) EXPECT(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
    else EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static int write_and_exit(void) {
    prepare_heap();
    allow_only((int[]){SYS_write, SYS_exit_group}, 2, 0);
    work(50000);
    say("filtered\n");
    return 0;
}

static int write_and_exit_by_syscall(void) {
    prepare_heap();
    allow_only((int[]){SYS_write, SYS_exit_group}, 2, 1);
    work(50000);
    say("filtered\n");
    _exit(6);
}

static pthread_mutex_t go = PTHREAD_MUTEX_INITIALIZER;

static void *waits(void *unused) {
    (void)unused;
    pthread_mutex_lock(&go);
    pthread_mutex_unlock(&go);
    // Its first allocation, in the sandbox.
    work(5000);
    return NULL;
}

// The filter is for all threads, and those that start later.
static int threads_too(void) {
    pthread_t threads[8];
    prepare_heap();
    pthread_mutex_lock(&go);
    for (int i = 0; i < 4; i++) EXPECT(pthread_create(&threads[i], NULL, waits, NULL) == 0);
    int calls[] = {SYS_write, SYS_exit_group, SYS_futex, SYS_exit, SYS_mmap, SYS_mprotect, SYS_munmap, SYS_madvise, SYS_clone,
                   SYS_clone3, SYS_set_robust_list, SYS_rseq, SYS_rt_sigprocmask, SYS_brk};
    allow_only(calls, sizeof calls / sizeof *calls, 1);
    pthread_mutex_unlock(&go);
    for (int i = 4; i < 8; i++) EXPECT(pthread_create(&threads[i], NULL, waits, NULL) == 0);
    for (int i = 0; i < 8; i++) EXPECT(pthread_join(threads[i], NULL) == 0);
    say("8 threads\n");
    return 0;
}

static int forks_in_filter(void) {
    prepare_heap();
    int calls[] = {SYS_write, SYS_exit_group, SYS_clone, SYS_wait4, SYS_set_robust_list, SYS_getpid, SYS_rseq};
    allow_only(calls, sizeof calls / sizeof *calls, 0);
    work(5000);
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        work(5000);
        _exit(5);
    }
    say("child %d\n", status_of(pid));
    return 0;
}

// The child is made behind the C library's back and gives up system calls before it allocates.
static int bare_clone_in_filter(void) {
    prepare_heap();
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        begin_counting();
        allow_only((int[]){SYS_write, SYS_exit_group}, 2, 0);
        work(5000);
        _exit(5);
    }
    say("child %d\n", status_of(pid));
    return 0;
}

static int in_other_root(void) {
    EXPECT(access("/proc", F_OK) != 0);
    work(5000);
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        keep(5, 50);
        _exit(4);
    }
    say("child %d\n", status_of(pid));
    // Neither the session nor the library is to be seen from here.
    pid = fork();
    if (pid == 0) {
        begin_counting();
        keep(6, 60);
        execl("/inside", "inside", (char *)NULL);
        _exit(97);
    }
    say("inside %d\n", status_of(pid));
    // Nor does anyone complain that they are not.
    pid = fork();
    if (pid == 0) {
        begin_counting();
        keep(7, 70);
        execl("/dynamic", "dynamic", (char *)NULL);
        _exit(97);
    }
    say("dynamic %d\n", status_of(pid));
    return 0;
}

static int other_root(void) {
    keep(10, 100);
    EXPECT(chroot(getenv("HARM_ROOT")) == 0 && chdir("/") == 0);
    return in_other_root();
}

// As containers begin: a mount namespace of its own, whose root is another directory, and the old one is gone.
static int pivoted_root(void) {
    const char *root = getenv("HARM_ROOT");
    keep(10, 100);
    EXPECT(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    EXPECT(mount(root, root, NULL, MS_BIND, NULL) == 0 && chdir(root) == 0);
    EXPECT(syscall(SYS_pivot_root, ".", ".") == 0 && umount2(".", MNT_DETACH) == 0 && chdir("/") == 0);
    return in_other_root();
}

static int close_all(void) {
    int free_before = dup(0);
    keep(10, 100);
    closefrom(free_before);
    EXPECT(open("/dev/null", O_RDONLY) == free_before);
    work(20000);
    EXPECT(close_range(3, ~0U, 0) == 0);
    work(20000);
    for (int fd = 3; fd < 256; fd++) close(fd);
    EXPECT(open("/dev/null", O_RDONLY) == 3);
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        closefrom(0);
        work(20000);
        _exit(4);
    }
    say("child %d\n", status_of(pid));
    return 0;
}

static int nobody(void) {
    keep(10, 100);
    EXPECT(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
    work(20000);
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        work(5000);
        _exit(4);
    }
    say("child %d\n", status_of(pid));
    return 0;
}

MAIN({"seccomp_strict", strict}, {"seccomp_filter", write_and_exit}, {"seccomp_by_syscall", write_and_exit_by_syscall},
     {"seccomp_threads", threads_too}, {"seccomp_fork", forks_in_filter}, {"seccomp_bare_clone", bare_clone_in_filter},
     {"chroot", other_root}, {"pivot_root", pivoted_root}, {"closefrom", close_all}, {"other_user", nobody})
