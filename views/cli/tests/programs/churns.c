// Allocates and frees all the time, with threads and forks: much happens, little is held.
// churns ALLOCATIONS KEPT MILLISECONDS: each of two threads allocates so many, and goes on slowly until the time is over.
// Prints how many the parent has allocated in both.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long kept;
static uint64_t wanted;
static uint64_t end_ns;
static int running = 2;

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t random_of(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

__attribute__((noinline)) static char *make(uint64_t size) {
    char *made = malloc(size);
    made[0] = 1;
    return made;
}

static uint64_t churn(uint64_t seed, uint64_t least, uint64_t until_ns, char **slots) {
    uint64_t allocated = 0;
    while (allocated < least || now_ns() < until_ns) {
        if (allocated >= least) usleep(100000);
        for (int i = 0; i < 2000; i++) {
            uint64_t slot = random_of(&seed) % (uint64_t)kept;
            free(slots[slot]);
            slots[slot] = make(16 + random_of(&seed) % 400);
            allocated++;
        }
        char *pages = mmap(NULL, 64 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(pages, 1, 64 << 10);
        munmap(pages, 64 << 10);
    }
    return allocated;
}

static void *thread(void *seed) {
    char **slots = calloc((size_t)kept, sizeof *slots);
    uint64_t allocated = churn((uint64_t)seed, wanted, end_ns, slots);
    __atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST);
    return (void *)allocated;
}

int main(int count, char **words) {
    if (count != 4) return 2;
    wanted = (uint64_t)atol(words[1]);
    end_ns = now_ns() + (uint64_t)atol(words[3]) * 1000000u;
    kept = atol(words[2]);
    pthread_t threads[2];
    for (uint64_t i = 0; i < 2; i++) pthread_create(&threads[i], NULL, thread, (void *)(i + 1));
    while (__atomic_load_n(&running, __ATOMIC_SEQ_CST) > 0) {
        pid_t child = fork();
        if (child == 0) {
            char **slots = calloc((size_t)kept, sizeof *slots);
            churn(7, 10000, 0, slots);
            _exit(0);
        }
        waitpid(child, NULL, 0);
        usleep(200000);
    }
    uint64_t allocated = 0;
    for (int i = 0; i < 2; i++) {
        void *of_thread;
        pthread_join(threads[i], &of_thread);
        allocated += (uint64_t)of_thread;
    }
    printf("%llu\n", (unsigned long long)allocated);
    return 0;
}
