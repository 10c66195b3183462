// Allocates and frees without end until it is killed, and keeps in a file mapping that outlives it how many events each
// of its threads has begun and finished. What is counted is of 5001 to 5777 bytes, which nothing else here asks for.
// The first argument says what else it does: threads, execs, forks; once for a program that ends.
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CELLS = 16383, SLOTS = 48, BURST = 150 };
struct cell {
    _Atomic unsigned long tid, allocs_begun, allocs, frees_begun, frees;
    char pad[24];
};
struct counts {
    _Atomic unsigned long taken;
    char pad[56];
    struct cell cells[CELLS];
};
struct worker {
    struct cell *cell;
    void *slots[SLOTS];
    unsigned long random;
};
static struct counts *counts;
extern char **environ;

static void begin(struct worker *self) {
    unsigned long taken = atomic_fetch_add(&counts->taken, 1);
    if (taken >= CELLS) _exit(90);
    memset(self, 0, sizeof *self);
    self->cell = &counts->cells[taken];
    self->random = 88172645463325252u + taken;
    atomic_store(&self->cell->tid, gettid());
}

static unsigned long next(struct worker *self) {
    self->random ^= self->random << 13;
    self->random ^= self->random >> 7;
    self->random ^= self->random << 17;
    return self->random;
}

static void burst(struct worker *self) {
    struct cell *cell = self->cell;
    for (int i = 0; i < BURST; i++) {
        void **slot = &self->slots[next(self) % SLOTS];
        size_t size = 5001 + next(self) % 777;
        unsigned long how = next(self) % 8;
        if (*slot && how == 0) {
            atomic_fetch_add(&cell->frees_begun, 1);
            atomic_fetch_add(&cell->allocs_begun, 1);
            *slot = realloc(*slot, size);
            atomic_fetch_add(&cell->allocs, 1);
            atomic_fetch_add(&cell->frees, 1);
            continue;
        }
        if (*slot) {
            atomic_fetch_add(&cell->frees_begun, 1);
            free(*slot);
            atomic_fetch_add(&cell->frees, 1);
        }
        atomic_fetch_add(&cell->allocs_begun, 1);
        *slot = how == 1 ? calloc(1, size) : how == 2 ? memalign(256, size) : malloc(size);
        atomic_fetch_add(&cell->allocs, 1);
    }
}

static void nap(void) { nanosleep(&(struct timespec){0, 300000}, NULL); }

// Before main, as the constructors of a C++ program are.
__attribute__((constructor)) static void early(void) {
    int file = open(getenv("COUNTS"), O_RDWR | O_CLOEXEC);
    if (file < 0) _exit(91);
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (counts == MAP_FAILED) _exit(92);
    close(file);
    struct worker self;
    begin(&self);
    burst(&self);
}

static void *work(void *unused) {
    (void)unused;
    struct worker self;
    for (begin(&self);; nap()) burst(&self);
}

static void forks(char **arguments) {
    struct worker self;
    begin(&self);
    char *once[] = {arguments[0], "once", NULL};
    for (int number = 0;; number++) {
        burst(&self);
        pid_t child = number % 4 == 3 ? 0 : fork();
        if (number % 4 == 3) {
            if (posix_spawn(&child, arguments[0], NULL, NULL, once, environ) != 0) _exit(93);
        } else if (child == 0) {
            struct worker own;
            begin(&own);
            burst(&own);
            if (number % 4 == 0) execv(arguments[0], once);
            if (number % 4 == 1) kill(getpid(), SIGKILL);
            _exit(0);
        }
        burst(&self);
        if (number % 3 == 2) while (waitpid(-1, NULL, 0) > 0) {}
    }
}

int main(int count, char **arguments) {
    const char *how = count > 1 ? arguments[1] : "";
    pthread_t thread;
    struct worker self;
    if (strcmp(how, "threads") == 0) {
        for (int i = 0; i < 3; i++) pthread_create(&thread, NULL, work, NULL);
        work(NULL);
    } else if (strcmp(how, "forks") == 0) {
        pthread_create(&thread, NULL, work, NULL);
        forks(arguments);
    } else if (strcmp(how, "execs") == 0) {
        pthread_create(&thread, NULL, work, NULL);
        begin(&self);
        burst(&self);
        execv(arguments[0], arguments);
    } else if (strcmp(how, "once") == 0) {
        begin(&self);
        burst(&self);
        return 0;
    }
    return 94;
}
