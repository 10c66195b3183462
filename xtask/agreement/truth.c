/* truth: which pages of a process the kernel has in RAM, at moments that nobody else knows.
 *
 * usage: truth PID OUT SNAPSHOTS MIN_MS MAX_MS SEED LEAST_PAGES
 *
 * It shares no code with the product, so that both are not wrong in the same way. At random distances it stops the
 * process, takes the time, lists its pages (PAGEMAP_SCAN, include/uapi/linux/fs.h) and lets it go on, until it has
 * SNAPSHOTS of them or the process ends. A stop in which the process ran is taken again: somebody else may have sent
 * SIGCONT. A stop with fewer than LEAST_PAGES anonymous pages is left out: the program is not at its work yet. OUT gets:
 *
 *   stop TIME_NS ROLLUP_PAGES LISTED_PAGES TRIES   CLOCK_MONOTONIC; `Anonymous` of smaps_rollup; what follows as a
 *   anon FIRST PAST                                 runs of anonymous pages in RAM, as page indexes
 *   elf FIRST PAST                                  runs of file pages in RAM, in mappings of ELF files
 *   other FIRST PAST                                mappings of files that are none, resident or not
 *   end REASON                                      the last line: `enough`, or `gone` when the process has ended
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* From linux/fs.h, which is older than the kernel on many machines. */
struct scan_region {
    uint64_t start, end, categories;
};
struct scan_arguments {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN _IOWR('f', 16, struct scan_arguments)
#define IS_FILE (1ull << 2)
#define IS_PRESENT (1ull << 3)
#define IS_ZERO_PAGE (1ull << 5)
#define REGIONS 512
#define TRIES_MAX 20
#define PAUSE_BETWEEN_TRIES_NS 3000000
#define LONGEST_WAIT_NS 200000000

static pid_t pid;
static int pidfd;
static uint64_t page_bytes, least_pages;

struct run {
    uint64_t start, end;
};
struct runs {
    struct run *items;
    size_t count, room;
};
static struct runs anonymous, elf, other;

enum outcome { DONE, AGAIN, TOO_SMALL, GONE };

static void fail(const char *what) {
    fprintf(stderr, "truth: %s of process %d: %s\n", what, pid, strerror(errno));
    exit(2);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void pause_for(uint64_t nanoseconds) {
    struct timespec time = {(time_t)(nanoseconds / 1000000000u), (long)(nanoseconds % 1000000000u)};
    while (nanosleep(&time, &time) == -1 && errno == EINTR) {
    }
}

/* By a descriptor, so that it never hits a later process of the same number. */
static int tell(int signal_number) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal_number, NULL, 0);
}

static FILE *open_file(const char *name) {
    char path[340];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return fopen(path, "re");
}

/* What tells whether any thread ran between two looks. */
struct threads {
    unsigned count, stopped;
    uint64_t switches;
};

static int look_at_thread(const char *tid, struct threads *threads) {
    char name[300], line[256], state = 'X';
    snprintf(name, sizeof name, "task/%s/status", tid);
    FILE *status = open_file(name);
    if (!status) {
        return 0;
    }
    unsigned long long switches = 0;
    while (fgets(line, sizeof line, status)) {
        unsigned long long value;
        if (sscanf(line, "State: %c", &state) != 1 &&
            (sscanf(line, "voluntary_ctxt_switches: %llu", &value) == 1 ||
             sscanf(line, "nonvoluntary_ctxt_switches: %llu", &value) == 1)) {
            switches += value;
        }
    }
    fclose(status);
    if (state != 'Z' && state != 'X') {
        threads->count++;
        threads->stopped += state == 'T' || state == 't';
        threads->switches += switches;
    }
    return 1;
}

/* No threads at all where the process has ended. */
static struct threads look(void) {
    struct threads threads = {0, 0, 0};
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *directory = opendir(path);
    if (!directory) {
        return threads;
    }
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        if (isdigit((unsigned char)entry->d_name[0])) {
            look_at_thread(entry->d_name, &threads);
        }
    }
    closedir(directory);
    return threads;
}

static enum outcome wait_until_stopped(struct threads *threads) {
    uint64_t deadline = now() + LONGEST_WAIT_NS;
    do {
        *threads = look();
        if (!threads->count) {
            return GONE;
        }
        if (threads->count == threads->stopped) {
            return DONE;
        }
        pause_for(50000);
    } while (now() < deadline);
    return AGAIN;
}

static void add(struct runs *runs, uint64_t start, uint64_t end) {
    if (runs->count && runs->items[runs->count - 1].end == start) {
        runs->items[runs->count - 1].end = end;
        return;
    }
    if (runs->count == runs->room) {
        runs->room = runs->room ? runs->room * 2 : 1024;
        runs->items = realloc(runs->items, runs->room * sizeof *runs->items);
        if (!runs->items) {
            fail("no memory for the pages");
        }
    }
    runs->items[runs->count++] = (struct run){start, end};
}

static uint64_t pages_of(const struct runs *runs) {
    uint64_t bytes = 0;
    for (size_t at = 0; at < runs->count; at++) {
        bytes += runs->items[at].end - runs->items[at].start;
    }
    return bytes / page_bytes;
}

/* The pages of one mapping that are in RAM. */
static void list_pages(int pagemap, uint64_t start, uint64_t end, int is_elf) {
    static struct scan_region regions[REGIONS];
    while (start < end) {
        struct scan_arguments arguments = {
            .size = sizeof arguments, .start = start, .end = end, .vec = (uint64_t)(uintptr_t)regions,
            .vec_len = REGIONS, .category_mask = IS_PRESENT, .return_mask = IS_PRESENT | IS_FILE | IS_ZERO_PAGE,
        };
        int found = ioctl(pagemap, SCAN, &arguments);
        if (found < 0) {
            fail("PAGEMAP_SCAN (Linux 6.7)");
        }
        for (int at = 0; at < found; at++) {
            if (!(regions[at].categories & (IS_FILE | IS_ZERO_PAGE))) {
                add(&anonymous, regions[at].start, regions[at].end);
            } else if (is_elf && regions[at].categories & IS_FILE) {
                add(&elf, regions[at].start, regions[at].end);
            }
        }
        /* walk_end is not to be trusted when the regions are full; with fewer all has been walked. */
        start = found == REGIONS ? regions[REGIONS - 1].end : end;
    }
}

static int starts_as_elf(const char *path) {
    static char last_path[4096];
    static int last;
    if (path[0] != '/' || strcmp(path, last_path) == 0) {
        return path[0] == '/' && last;
    }
    char magic[4] = {0};
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    last = file >= 0 && read(file, magic, sizeof magic) == sizeof magic && memcmp(magic, "\177ELF", 4) == 0;
    if (file >= 0) {
        close(file);
    }
    snprintf(last_path, sizeof last_path, "%s", path);
    return last;
}

static enum outcome list_mappings(void) {
    char path[64], line[4400], name[4096];
    snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
    int pagemap = open(path, O_RDONLY | O_CLOEXEC);
    FILE *maps = open_file("maps");
    if (pagemap < 0 || !maps) {
        return GONE;
    }
    anonymous.count = elf.count = other.count = 0;
    unsigned long long start, end;
    while (fgets(line, sizeof line, maps)) {
        name[0] = 0;
        if (sscanf(line, "%llx-%llx %*s %*s %*s %*s %4095[^\n]", &start, &end, name) < 2) {
            continue;
        }
        int is_elf = starts_as_elf(name);
        if (strncmp(name, "[v", 2) != 0) { /* [vdso], [vvar], [vvar_vclock], [vsyscall] */
            list_pages(pagemap, start, end, is_elf);
        }
        if (name[0] == '/' && !is_elf) {
            add(&other, start, end);
        }
    }
    fclose(maps);
    close(pagemap);
    return DONE;
}

static long long rollup_pages(void) {
    char line[256];
    unsigned long long kib;
    long long pages = -1;
    FILE *rollup = open_file("smaps_rollup");
    while (rollup && fgets(line, sizeof line, rollup)) {
        if (sscanf(line, "Anonymous: %llu kB", &kib) == 1) {
            pages = (long long)(kib * 1024 / page_bytes);
        }
    }
    if (rollup) {
        fclose(rollup);
    }
    return pages;
}

static enum outcome look_while_stopped(uint64_t *time, long long *rollup) {
    struct threads before, after;
    enum outcome outcome = wait_until_stopped(&before);
    if (outcome != DONE) {
        return outcome;
    }
    *time = now();
    outcome = list_mappings();
    *rollup = rollup_pages();
    after = look();
    if (outcome == GONE || !after.count) {
        return GONE;
    }
    int ran = after.count != before.count || after.stopped != after.count || after.switches != before.switches;
    return ran || *rollup < 0 ? AGAIN : DONE;
}

static enum outcome take(FILE *out) {
    for (int try = 1; try <= TRIES_MAX; try++) {
        struct threads threads = look();
        enum outcome outcome = threads.count ? AGAIN : GONE;
        uint64_t time = 0;
        long long rollup = 0;
        /* Whoever stopped it will let it go on, and that would end our stop too. */
        if (threads.count && !threads.stopped) {
            if (tell(SIGSTOP) == -1) {
                return GONE;
            }
            outcome = look_while_stopped(&time, &rollup);
            tell(SIGCONT);
        }
        if (outcome == GONE) {
            return GONE;
        }
        if (outcome == DONE && pages_of(&anonymous) < least_pages) {
            return TOO_SMALL;
        }
        if (outcome == DONE) {
            fprintf(out, "stop %llu %lld %llu %d\n", (unsigned long long)time, rollup,
                    (unsigned long long)pages_of(&anonymous), try);
            const struct runs *kinds[] = {&anonymous, &elf, &other};
            const char *names[] = {"anon", "elf", "other"};
            for (int kind = 0; kind < 3; kind++) {
                for (size_t at = 0; at < kinds[kind]->count; at++) {
                    struct run run = kinds[kind]->items[at];
                    fprintf(out, "%s %llu %llu\n", names[kind], (unsigned long long)(run.start / page_bytes),
                            (unsigned long long)(run.end / page_bytes));
                }
            }
            fflush(out);
            return DONE;
        }
        pause_for(PAUSE_BETWEEN_TRIES_NS);
    }
    return AGAIN;
}

int main(int count, char **arguments) {
    if (count != 8) {
        fprintf(stderr, "usage: truth PID OUT SNAPSHOTS MIN_MS MAX_MS SEED LEAST_PAGES\n");
        return 2;
    }
    pid = (pid_t)atol(arguments[1]);
    long snapshots = atol(arguments[3]), least_ms = atol(arguments[4]), most_ms = atol(arguments[5]);
    if (pid <= 0 || snapshots < 1 || least_ms < 0 || most_ms < least_ms) {
        fprintf(stderr, "truth: expected PID and SNAPSHOTS above 0, and MIN_MS at most MAX_MS\n");
        return 2;
    }
    page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    least_pages = strtoull(arguments[7], NULL, 10);
    srandom((unsigned)atol(arguments[6]));
    FILE *out = fopen(arguments[2], "we");
    if (!out) {
        fail("cannot write the pages");
    }
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        fail("pidfd_open");
    }
    const char *reason = "enough";
    for (long taken = 0; taken < snapshots;) {
        pause_for(1000 * ((uint64_t)least_ms * 1000 + (uint64_t)random() % ((uint64_t)(most_ms - least_ms) * 1000 + 1)));
        enum outcome outcome = take(out);
        if (outcome == GONE) {
            reason = "gone";
            break;
        }
        taken += outcome == DONE;
    }
    fprintf(out, "end %s\n", reason);
    return fclose(out) == 0 ? 0 : 2;
}
