// Limits that a program sets for itself: descriptors, address space, data, sizes of files, memory of a control group.
#include <signal.h>
#include <sys/resource.h>
#include "hazard.h"

static void limit(int what, rlim_t most) {
    struct rlimit limits = {most, most};
    EXPECT(setrlimit(what, &limits) == 0);
}

static int few_descriptors(void) {
    limit(RLIMIT_NOFILE, 10);
    int opened = 0;
    while (opened < 100 && open("/dev/null", O_RDONLY) >= 0) opened++;
    EXPECT(errno == EMFILE);
    say("opened %d\n", opened);
    make_and_drop(20000, 100);
    return 0;
}

static int no_descriptor(void) {
    limit(RLIMIT_NOFILE, 0);
    EXPECT(dup(0) < 0);
    make_and_drop(20000, 100);
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        keep(10, 100);
        _exit(3);
    }
    say("child %d\n", status_of(pid));
    return 0;
}

// How many times eight MiB fit in.
static int fit(void) {
    int made = 0;
    void *held[64];
    while (made < 64 && (held[made] = malloc(8 << 20))) {
        count_made();
        made++;
    }
    EXPECT(errno == ENOMEM);
    for (int i = 0; i < made; i++) drop(held[i]);
    return made;
}

static int little_address_space(void) {
    limit(RLIMIT_AS, 260 << 20);
    struct rlimit now;
    EXPECT(getrlimit(RLIMIT_AS, &now) == 0);
    int made = fit();
    // 260 MiB less the program and the C library.
    EXPECT(made == 31 || made == 32);
    say("limit %lu, %d times 8 MiB\n", (unsigned long)now.rlim_cur, made);
    make_and_drop(1000, 100);
    return 0;
}

static int little_data(void) {
    limit(RLIMIT_DATA, 68 << 20);
    struct rlimit now;
    EXPECT(getrlimit(RLIMIT_DATA, &now) == 0);
    int made = fit();
    EXPECT(made == 8);
    say("limit %lu, %d times 8 MiB\n", (unsigned long)now.rlim_cur, made);
    return 0;
}

// Calls that the kernel refuses, and those that want nothing.
static int wrong_limits(void) {
    struct rlimit now, wrong = {8UL << 30, 4UL << 30};
    EXPECT(setrlimit(RLIMIT_AS, &wrong) < 0 && errno == EINVAL);
    EXPECT(setrlimit(RLIMIT_DATA, &wrong) < 0 && errno == EINVAL);
    EXPECT(prlimit(getpid(), RLIMIT_AS, &wrong, &now) < 0 && errno == EINVAL);
    EXPECT(getrlimit(RLIMIT_AS, &now) == 0 && now.rlim_cur == RLIM_INFINITY && now.rlim_max == RLIM_INFINITY);
    struct rlimit *volatile nowhere = NULL;
    int got = getrlimit(RLIMIT_AS, nowhere), both = prlimit(0, RLIMIT_AS, NULL, NULL);
    say("without a place %d, without anything %d\n", got, both);
    limit(RLIMIT_AS, 4UL << 30);
    got = getrlimit(RLIMIT_AS, nowhere);
    say("without a place %d\n", got);
    EXPECT(getrlimit(100, &now) < 0 && errno == EINVAL);
    make_and_drop(100, 100);
    return 0;
}

static volatile sig_atomic_t too_large;
static void told(int signal) { too_large = signal == SIGXFSZ; }

static int small_files(void) {
    char path[] = "/tmp/harm-XXXXXX";
    int file = mkstemp(path);
    EXPECT(file >= 0 && unlink(path) == 0);
    limit(RLIMIT_FSIZE, 1000);
    EXPECT(signal(SIGXFSZ, told) != SIG_ERR);
    char bytes[2000] = {1};
    EXPECT(write(file, bytes, 2000) == 1000);
    make_and_drop(50000, 100);
    EXPECT(!too_large && write(file, bytes, 1) < 0 && errno == EFBIG && too_large);
    signal(SIGXFSZ, SIG_DFL);
    make_and_drop(50000, 100);
    say("small files\n");
    return 0;
}

// Joins the group whose limit the test has set.
static void join_group(void) {
    int file = open(getenv("HARM_GROUP"), O_WRONLY);
    char pid[16];
    int length = snprintf(pid, sizeof pid, "%d", (int)getpid());
    EXPECT(file >= 0 && write(file, pid, (size_t)length) == length);
    close(file);
}

static int within_group(void) {
    join_group();
    void *held[26];
    // 26 of the 32 MiB that there are, three times.
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 26; i++) EXPECT(held[i] = make(1 << 20));
        make_and_drop(20000, 100);
        for (int i = 0; i < 26; i++) drop(held[i]);
    }
    say("within\n");
    return 0;
}

static int beyond_group(void) {
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        join_group();
        for (;;) make(1 << 20);
    }
    say("ended %d\n", status_of(pid));
    return 0;
}

MAIN({"few_descriptors", few_descriptors}, {"no_descriptor", no_descriptor}, {"little_address_space", little_address_space},
     {"little_data", little_data}, {"wrong_limits", wrong_limits}, {"small_files", small_files},
     {"cgroup_within", within_group}, {"cgroup_beyond", beyond_group})
